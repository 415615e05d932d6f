// Activations that are data. Which it is, is asked once for all vectors at hand, out of line: so there is one copy of
// each, and the vectors' arithmetic overlaps.
#pragma once

#include "../cells/activations.h"
#include "../problem.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// a becomes f(a), of each of `count` vectors.
template <class V>
FASTRNN_NOINLINE void activate(const Activation<typename V::Real>& f, V* a, int count) {
    const V alpha = V::broadcast(f.alpha), beta = V::broadcast(f.beta);
    switch (f.kind) {
#define FASTRNN_CASE(enumerator, arithmetic, ...)                                                    \
    case ActivationKind::enumerator:                                                                 \
        for (int i = 0; i < count; ++i) a[i] = activations::arithmetic<V>::value(a[i], alpha, beta); \
        return;
        FASTRNN_ACTIVATIONS(FASTRNN_CASE)
#undef FASTRNN_CASE
    }
}

template <class V>
void activate(const Activation<typename V::Real>& f, Pair<V>* a, int count) {
    static_assert(sizeof(Pair<V>) == 2 * sizeof(V));
    activate(f, &a->a, 2 * count);
}

// dy, the gradients by y = f(a), become those by a.
template <class V>
FASTRNN_NOINLINE void differentiate(const Activation<typename V::Real>& f, const V* y, V* dy, int count) {
    const V alpha = V::broadcast(f.alpha), beta = V::broadcast(f.beta);
    switch (f.kind) {
#define FASTRNN_CASE(enumerator, arithmetic, ...)                                                               \
    case ActivationKind::enumerator:                                                                            \
        for (int i = 0; i < count; ++i) dy[i] = activations::arithmetic<V>::gradient(y[i], dy[i], alpha, beta); \
        return;
        FASTRNN_ACTIVATIONS(FASTRNN_CASE)
#undef FASTRNN_CASE
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
