// What the loop over time does to arrays beside products and cells: ArrayKernels of ../kernel_table.h.
#pragma once

#include <cfloat>

#include "../kernel_table.h"
#include "normalise.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
void group_gates(const typename V::Real* from, int gates, Index units, typename V::Real* to) {
    for (Index unit = 0; unit < units; unit += V::kLanes)
        for (int g = 0; g < gates; ++g, to += V::kLanes)
            (from ? load_part<V>(from + g * units + unit, smaller(V::kLanes, units - unit)) : V::zero()).store(to);
}

template <class V>
void project_token(const typename V::Real* w, Index unit_step, Index gate_step, const typename V::Real* bias,
                   Index bias_step, int gates, Index n, typename V::Real* out) {
    for (int g = 0; g < gates; ++g, w += gate_step, out += V::kLanes) {
        typename V::Real column[V::kLanes] = {};
        for (Index i = 0; i < n && unit_step != 1; ++i) column[i] = w[i * unit_step];
        const V x = unit_step == 1 ? load_part<V>(w, n) : V::load(column);
        (x + (bias ? load_part<V>(bias + g * bias_step, n) : V::zero())).store(out);
    }
}

template <class Real>
constexpr Real largest_number() {
    if constexpr (sizeof(Real) == sizeof(float))
        return FLT_MAX;
    else
        return DBL_MAX;
}

// A sum of many terms in two vectors: what rounding has left out of the first is in the second, and goes in with the
// next term (Kahan, 1965, with Knuth's two-sum). So it is right to the last bit or two, however many terms there are.
// Of an infinite sum, or NaN, nothing is left out.
template <class V>
struct LongSum {
    V sum, rest;

    void add(V term) {
        const V all = term + rest, next = sum + all, counted = next - sum;
        const V left_out = (sum - (next - counted)) + (all - counted);
        rest = where_positive(V::broadcast(largest_number<typename V::Real>()) - abs(next), left_out);
        sum = next;
    }
};

// Adds to sums (units) the columns of gate (depth, pitch), or sets them; `rest` has what rounding left out.
template <class V>
FASTRNN_NOINLINE void column_sums(const typename V::Real* gate, Index pitch, Range units, Index depth, bool add,
                                  typename V::Real* sums, typename V::Real* rest) {
    constexpr Index part = 16;  // rows that are added in the plain way: off by 8 roundings at most
    for (Index unit = units.begin; unit < units.end; unit += V::kLanes) {
        const Index n = smaller(V::kLanes, units.end - unit);
        LongSum<V> whole{add ? load_part<V>(sums + unit, n) : V::zero(),
                         add ? load_part<V>(rest + unit, n) : V::zero()};
        const typename V::Real* row = gate + unit;
        for (Index first = 0; first < depth; first += part) {
            const Index rows = smaller(part, depth - first);
            V even = V::zero(), odd = V::zero();
            for (Index i = 0; i + 1 < rows; i += 2, row += 2 * pitch) {
                even = even + load_part<V>(row, n);
                odd = odd + load_part<V>(row + pitch, n);
            }
            if (rows % 2 != 0) even = even + load_part<V>(row, n);
            whole.add(even + odd);
        }
        store_part(whole.sum, sums + unit, n);
        store_part(whole.rest, rest + unit, n);
    }
}

// Adds each row of gate (depth, pitch) to the row of its token, of sums (D, sums_pitch). What rounding leaves out goes
// to rests, (.., sums_pitch), in row rest_place[token] if that is not negative; without `rest_place` in the token's
// own.
template <class V>
FASTRNN_NOINLINE void token_sums(const typename V::Real* gate, Index pitch, Range units, const std::int32_t* slot,
                                 Index depth, typename V::Real* sums, const std::int32_t* rest_place,
                                 typename V::Real* rests, Index sums_pitch) {
    for (Index row = 0; row < depth; ++row, gate += pitch) {
        typename V::Real* const sum = sums + slot[row] * sums_pitch;
        const auto term = [&](Index unit) { return load_part<V>(gate + unit, smaller(V::kLanes, units.end - unit)); };
        const Index place = rest_place ? rest_place[slot[row]] : slot[row];
        if (place < 0) {
            for (Index unit = units.begin; unit < units.end; unit += V::kLanes)
                (V::load(sum + unit) + term(unit)).store(sum + unit);
            continue;
        }
        typename V::Real* const rest = rests + place * sums_pitch;
        for (Index unit = units.begin; unit < units.end; unit += V::kLanes) {
            LongSum<V> whole{V::load(sum + unit), V::load(rest + unit)};
            whole.add(term(unit));
            whole.sum.store(sum + unit);
            whole.rest.store(rest + unit);
        }
    }
}

template <class V>
constexpr ArrayKernels<typename V::Real> array_kernels() {
    return {group_gates<V>, project_token<V>, transpose<V>,         column_sums<V>,
            token_sums<V>,  normalise<V>,     normalise_gradient<V>};
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
