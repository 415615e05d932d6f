// Layer normalisation (Ba et al., 2016) of the rows of planes, and its gradient. A row is one thread's, and is summed
// in one order.
#pragma once

#include <math.h>

#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

constexpr double kNormaliseEpsilon = 1e-5;  // as in PyTorch's LayerNorm

template <class V>
typename V::Real sum_of(V v) {
    typename V::Real lane[V::kLanes], sum = 0;
    v.store(lane);
    for (const typename V::Real each : lane) sum += each;
    return sum;
}

// Calls at(unit, how many units, their sum's mask) for every vector of n units: the mask is 1 for each of them, else 0.
template <class V, class At>
FASTRNN_INLINE void for_each_vector(Index n, const At& at) {
    typename V::Real some[V::kLanes] = {};
    for (Index i = 0; i < n % V::kLanes; ++i) some[i] = 1;
    const V all = V::broadcast(1), rest = V::load(some);
    for (Index unit = 0; unit < n; unit += V::kLanes) {
        const Index count = smaller(V::kLanes, n - unit);
        at(unit, count, count == V::kLanes ? all : rest);
    }
}

// Makes of n numbers a what they are above their mean, over the root of their variance plus epsilon; returns 1 / root.
template <class V>
FASTRNN_NOINLINE typename V::Real normalise(typename V::Real* a, Index n) {
    using Real = typename V::Real;
    V total = V::zero(), squares = V::zero();
    for_each_vector<V>(n, [&](Index unit, Index count, V) { total = total + load_part<V>(a + unit, count); });
    const V mean = V::broadcast(sum_of(total) / static_cast<Real>(n));
    for_each_vector<V>(n, [&](Index unit, Index count, V mask) {
        const V above = mask * (load_part<V>(a + unit, count) - mean);
        squares = fma(above, above, squares);
    });
    const double variance = static_cast<double>(sum_of(squares)) / static_cast<double>(n);
    const Real scale = static_cast<Real>(1 / sqrt(variance + kNormaliseEpsilon));
    const V scales = V::broadcast(scale);
    for_each_vector<V>(n, [&](Index unit, Index count, V) {
        store_part(scales * (load_part<V>(a + unit, count) - mean), a + unit, count);
    });
    return scale;
}

// Makes of d, the gradient by the n numbers `normalised`, that by the numbers that they were made of.
template <class V>
FASTRNN_NOINLINE void normalise_gradient(const typename V::Real* normalised, typename V::Real scale, Index n,
                                         typename V::Real* d) {
    using Real = typename V::Real;
    V total = V::zero(), along = V::zero();
    for_each_vector<V>(n, [&](Index unit, Index count, V) {
        const V each = load_part<V>(d + unit, count);
        total = total + each;
        along = fma(each, load_part<V>(normalised + unit, count), along);
    });
    const Real share = 1 / static_cast<Real>(n);
    const V mean = V::broadcast(sum_of(total) * share), slope = V::broadcast(sum_of(along) * share);
    const V scales = V::broadcast(scale);
    for_each_vector<V>(n, [&](Index unit, Index count, V) {
        const V rest = fnma(slope, load_part<V>(normalised + unit, count), load_part<V>(d + unit, count) - mean);
        store_part(scales * rest, d + unit, count);
    });
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
