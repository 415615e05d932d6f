// What general cells have in common: those whose activations are data, and whose gates' sums may have a limit.
#pragma once

#include "../kernels/activate.h"
#include "phase.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Between -limit and limit, and NaN where a is.
template <class V>
V limited(V a, typename V::Real limit) {
    const V most = V::broadcast(limit);
    return V::zero() - max(V::zero() - most, V::zero() - max(V::zero() - most, a));
}

// The sums of `count` gates become the gates: activation f of the cell, of what is within the limit.
template <class V>
void open_gates(Own<V> own, int f, V* gates, int count) {
    const auto& options = *own.options;
    for (int g = 0; options.limits_gates && g < count; ++g) gates[g] = limited(gates[g], options.gate_limit);
    activate(options.activation[f], gates, count);
}

// The gradients by these gates become those by their sums. A sum was beyond the limit where its gate came out at what
// the activation makes of that.
template <class V>
void open_gates_backward(Own<V> own, int f, const V* gates, V* dgates, int count) {
    const auto& options = *own.options;
    differentiate(options.activation[f], gates, dgates, count);
    if (!options.limits_gates) return;
    const V least = V::broadcast(options.gate_least[f]), most = V::broadcast(options.gate_most[f]);
    for (int g = 0; g < count; ++g)
        dgates[g] = where_positive(most - gates[g], where_positive(gates[g] - least, dgates[g]));
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
