"""Readers of file formats and of users' own data.

- `columns`: columns of a file; `csv_parquet`: CSV and Parquet files as such; `sql`: answers of queries;
  `table`: columns as a data set, with `table_target`, `table_split` and `table_warnings`.
- `image_file`: one image as an array; `image_folder`: a folder of images as a data set.
- `npz`: arrays of images in an NPZ file; `idx`: IDX files, the format of MNIST.
- `text`: documents as TF-IDF and its truncated SVD.
- `content`: bytes of a regular file, decompressed, up to a limit of memory; every reader opens files there.
- `image_dataset`: classes and sizes for the readers of images; `image_memory`: the limit on the memory of images.
"""
