// The activations of the list: each a function of a sum a, and what it makes of a gradient by its value y. Of the sum
// nothing else is kept: the derivative is told from y.
//
//   value(a, alpha, beta)           y
//   gradient(y, dy, alpha, beta)    dy * f'(a); at a corner that of its lower side, or 0 where one of them is flat
#pragma once

#include "../kernels/math.h"

namespace fastrnn::FASTRNN_ISA {
namespace {
namespace activations {

// d where y is positive, else alpha_d.
template <class V>
V by_sign(V y, V d, V alpha_d) {
    const V positive = where_positive(y, V::broadcast(1));
    return where_positive(positive, d) + where_positive(V::broadcast(1) - positive, alpha_d);
}

template <class V>
struct Sigmoid {
    static V value(V a, V, V) { return sigmoid<typename V::Real>(a); }
    static V gradient(V y, V dy, V, V) { return dy * y * (V::broadcast(1) - y); }
};

template <class V>
struct Tanh {
    static V value(V a, V, V) { return tanh<typename V::Real>(a); }
    static V gradient(V y, V dy, V, V) { return dy * fnma(y, y, V::broadcast(1)); }
};

template <class V>
struct Relu {
    static V value(V a, V, V) { return max(V::zero(), a); }
    static V gradient(V y, V dy, V, V) { return where_positive(y, dy); }
};

// max(0, min(1, alpha a + beta))
template <class V>
struct HardSigmoid {
    static V value(V a, V alpha, V beta) { return max(V::zero(), min(V::broadcast(1), fma(alpha, a, beta))); }
    static V gradient(V y, V dy, V alpha, V) {
        return where_positive(y, where_positive(V::broadcast(1) - y, alpha * dy));
    }
};

// alpha a + beta
template <class V>
struct Affine {
    static V value(V a, V alpha, V beta) { return fma(alpha, a, beta); }
    static V gradient(V, V dy, V alpha, V) { return alpha * dy; }
};

// a where it is positive, else alpha a
template <class V>
struct LeakyRelu {
    static V value(V a, V alpha, V) { return fma(alpha, min(V::zero(), a), max(V::zero(), a)); }
    static V gradient(V y, V dy, V alpha, V) { return by_sign(y, dy, alpha * dy); }  // alpha >= 0
};

// a where it is above alpha, else 0
template <class V>
struct ThresholdedRelu {
    static V value(V a, V alpha, V) {
        const V one = V::broadcast(1), within = max(V::zero() - one, min(one, a));
        return where_positive(a - alpha, a) + (within - within);  // 0, or NaN where a is
    }
    static V gradient(V y, V dy, V, V) { return where_positive(abs(y), dy); }
};

// alpha tanh(beta a)
template <class V>
struct ScaledTanh {
    static V value(V a, V alpha, V beta) { return alpha * tanh<typename V::Real>(beta * a); }
    static V gradient(V y, V dy, V alpha, V beta) {
        return where_positive(abs(alpha), dy * beta * fnma(y, y / alpha, alpha));
    }
};

// a where it is positive, else alpha (exp(a) - 1)
template <class V>
struct Elu {
    static V value(V a, V alpha, V) {
        return fma(alpha, expm1_of_negative<typename V::Real>(min(V::zero(), a)), max(V::zero(), a));
    }
    static V gradient(V y, V dy, V alpha, V) { return by_sign(y, dy, dy * (y + alpha)); }  // alpha >= 0
};

// a / (1 + |a|)
template <class V>
struct Softsign {
    static V value(V a, V, V) {
        // To the largest 1 makes no difference: so infinities give 1.
        const V magnitude = min(V::broadcast(static_cast<typename V::Real>(1e30)), abs(a));
        return copysign(magnitude / (V::broadcast(1) + magnitude), a);
    }
    static V gradient(V y, V dy, V, V) {
        const V root = V::broadcast(1) - abs(y);
        return dy * root * root;
    }
};

// log(1 + exp(a))
template <class V>
struct Softplus {
    using Real = typename V::Real;
    static V value(V a, V, V) { return softplus<Real>(a); }
    static V gradient(V y, V dy, V, V) { return V::zero() - dy * expm1_of_negative<Real>(V::zero() - y); }
};

template <class V>
struct Identity {
    static V value(V a, V, V) { return a; }
    static V gradient(V, V dy, V, V) { return dy; }
};

}  // namespace activations
}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
