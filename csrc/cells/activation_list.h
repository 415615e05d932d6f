// THE list of activations that cells are given as data: see ../kernels/activate.h, tests and Python iterate it.
//
// X(enumerator, arithmetic, parameters, alpha, beta)
//   enumerator   name in fastrnn::ActivationKind, and the name by which Python asks for it
//   arithmetic   class template in activations.h that holds the function and its derivative
//   parameters   how many it has: alpha, or alpha and beta
//   alpha, beta  what they are where they are not given: ONNX's defaults
#pragma once

#define FASTRNN_ACTIVATIONS(X)                    \
    X(sigmoid, Sigmoid, 0, 0, 0)                  \
    X(tanh, Tanh, 0, 0, 0)                        \
    X(relu, Relu, 0, 0, 0)                        \
    X(hard_sigmoid, HardSigmoid, 2, 0.2, 0.5)     \
    X(affine, Affine, 2, 1, 0)                    \
    X(leaky_relu, LeakyRelu, 1, 0.01, 0)          \
    X(thresholded_relu, ThresholdedRelu, 1, 1, 0) \
    X(scaled_tanh, ScaledTanh, 2, 1, 1)           \
    X(elu, Elu, 1, 1, 0)                          \
    X(softsign, Softsign, 0, 0, 0)                \
    X(softplus, Softplus, 0, 0, 0)                \
    X(identity, Identity, 0, 0, 0)
