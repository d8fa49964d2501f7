"""Benchmarks beside peers, on the same machine in the same run: `python -m experiments.bench.CASE`, `--help` explains.

| case | peers | targets |
| --- | --- | --- |
| race | PyTorch (`race_torch`), scikit-learn (`race_sklearn`) | the optimizer race, whole processes |
| lanes | PyTorch (`race_torch`) | the cost of a lane among 100 and among 1,000 |
| startup | | imports, and compilations of a second start |
| convnet | PyTorch (`convnet_torch`) | training images per second, one run and many |
| images | | accuracy and whole processes of the image classifier |
| kmeans, mixture, softmax, svm | scikit-learn | seconds of a fit of equal quality |
| least_squares | scikit-learn, NumPy | seconds of a fit of equal quality |
| neighbors | scikit-learn, faiss, NumPy | seconds of a search |
| recurrent | PyTorch | seconds of the gradients of recurrent cells |
| translation_step | PyTorch (`translation_step_torch`) | seconds of a training step of the translation model |
| transformer_language | PyTorch | seconds of a training of a Transformer on tinyshakespeare, and its validation loss |
| selection | scikit-learn | seconds and scores of nested cross-validation |
| keel | scikit-learn | mean rank of mllab's choice on 13 tables, and its seconds |
| published_splits | published figures | RMSE and log likelihood of deep ensembles on five UCI sets |
| ceiling | | the machine's matrix product |

A case file has its problems, its solvers and its tables; `race_problem` and `convnet_mllab` also write the arrays that
PyTorch programs, which import nothing of mllab, train on. `harness` runs the programs in turn.
"""
