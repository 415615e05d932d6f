// Products of few rows with the caller's own weights, unpacked. Rows of W lie along k, so a product is a dot product
// along vectors, and the sums of one vector of units are gathered at the end.
#pragma once

#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

constexpr int kStepRows = 4;  // rows of the batch that share a reading of the weights

// sums (R, lanes) += rows times N rows of w, lane by lane: all of them run along k.
template <class V, int R, int N>
FASTRNN_INLINE void accumulate_tile(const typename V::Real* const* row, const typename V::Real* const* w, Index depth,
                                    V* sums) {
    using Real = typename V::Real;
    const Real *a[R], *b[N];
    V sum[R][N];
    for (int r = 0; r < R; ++r) a[r] = row[r];
    for (int i = 0; i < N; ++i) b[i] = w[i];
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < N; ++i) sum[r][i] = sums[r * V::kLanes + i];
    Index k = 0;
    if constexpr (R == 1) {
        // Whole cache lines of w at a time: rows of some lengths all fall into one set of the cache, which holds fewer
        // lines than there are rows.
        constexpr int vectors = static_cast<int>(kLine<Real>) / V::kLanes;
        for (; k + kLine<Real> <= depth; k += kLine<Real>) {
            V column[vectors];
            for (int v = 0; v < vectors; ++v) column[v] = V::load(a[0] + k + v * V::kLanes);
            for (int i = 0; i < N; ++i)
                for (int v = 0; v < vectors; ++v)
                    sum[0][i] = fma(column[v], V::load(b[i] + k + v * V::kLanes), sum[0][i]);
        }
    } else {
        for (; k + V::kLanes <= depth; k += V::kLanes) {
            V weights[N];
            for (int i = 0; i < N; ++i) weights[i] = V::load(b[i] + k);
            for (int r = 0; r < R; ++r) {
                const V column = V::load(a[r] + k);
                for (int i = 0; i < N; ++i) sum[r][i] = fma(column, weights[i], sum[r][i]);
            }
        }
    }
    for (; k < depth; k += V::kLanes) {
        const Index rest = smaller(V::kLanes, depth - k);
        for (int i = 0; i < N; ++i) {
            const V weights = load_part<V>(b[i] + k, rest);
            for (int r = 0; r < R; ++r) sum[r][i] = fma(load_part<V>(a[r] + k, rest), weights, sum[r][i]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < N; ++i) sums[r * V::kLanes + i] = sum[r][i];
}

// The same for the rows of w of one vector of units. Where there are only n of them, the last stands for the missing.
template <class V, int R>
FASTRNN_INLINE void accumulate(const typename V::Real* const* row, const typename V::Real* w, Index n, Index depth,
                               V* sums) {
    // As many sums at a time as max_rows() allows for, in tiles of nearly equal width.
    constexpr int most = (V::kRegisters == 32 ? 24 : 12) / R, tiles = (V::kLanes + most - 1) / most;
    constexpr int wide = (V::kLanes + tiles - 1) / tiles, last = V::kLanes - (tiles - 1) * wide;
    const typename V::Real* weights[V::kLanes];
    for (Index i = 0; i < V::kLanes; ++i) weights[i] = w + smaller(i, n - 1) * depth;
    constexpr int equal = wide == last ? tiles : tiles - 1;
    for (int t = 0; t < equal; ++t) accumulate_tile<V, R, wide>(row, weights + t * wide, depth, sums + t * wide);
    if constexpr (equal < tiles) accumulate_tile<V, R, last>(row, weights + equal * wide, depth, sums + equal * wide);
}

// What the sums of one vector of n units are made of, for up to kStepRows rows of the batch and some gates: the input
// and what W_hh meets.
template <class Real>
struct SumsOf {
    struct {
        const Real* row[kStepRows];  // of x, absent with tokens, or of W_hh's operand
        const Real* w;               // of gate 0 and the first unit
        Index depth, stride;         // products of each sum; from one gate to the next
    } input, hidden;
    Index n;
    unsigned apart;  // gates, as bits, whose two sums are given apart; of the others, all goes into the second
};

// Adds to from_input and from_hidden (R, gates each). The same for all cells, it is most of what a step is.
template <class V, int R>
FASTRNN_NOINLINE void add_sums(const SumsOf<typename V::Real>& of, int first, int count, int gates, V* from_input,
                               V* from_hidden) {
    for (int g = first; g < first + count; ++g) {
        V sum[R][V::kLanes];
        const auto start = [&] {
            for (int r = 0; r < R; ++r)
                for (V& s : sum[r]) s = V::zero();
        };
        start();
        if (of.input.row[0]) {
            accumulate<V, R>(of.input.row, of.input.w + g * of.input.stride, of.n, of.input.depth, sum[0]);
            if (of.apart >> g & 1u) {
                for (int r = 0; r < R; ++r) from_input[r * gates + g] = from_input[r * gates + g] + sums(sum[r]);
                start();
            }
        }
        accumulate<V, R>(of.hidden.row, of.hidden.w + g * of.hidden.stride, of.n, of.hidden.depth, sum[0]);
        for (int r = 0; r < R; ++r) from_hidden[r * gates + g] = from_hidden[r * gates + g] + sums(sum[r]);
    }
}

// For `rows` of them, at most kStepRows.
template <class V>
decltype(&add_sums<V, 1>) add_sums_for(int rows) {
    static_assert(kStepRows == 4);
    static constexpr decltype(&add_sums<V, 1>) add[] = {add_sums<V, 1>, add_sums<V, 2>, add_sums<V, 3>, add_sums<V, 4>};
    return add[rows - 1];
}

template <class Real>
void linear(const LinearArgs<Real>& args) {
    using V = Vec<Real>;
    SumsOf<Real> sums{};  // with no input: these are the second sums
    sums.hidden.depth = args.I;
    for (Index b = 0; b < args.B; b += kStepRows) {
        const int rows = static_cast<int>(smaller(kStepRows, args.B - b));
        for (int r = 0; r < rows; ++r) sums.hidden.row[r] = args.x + (b + r) * args.I;
        for (Index unit = 0; unit < args.O; unit += V::kLanes) {
            const Index n = smaller(V::kLanes, args.O - unit);
            sums.hidden.w = args.weight + unit * args.I, sums.n = n;
            V y[kStepRows];
            for (int r = 0; r < rows; ++r) y[r] = args.bias ? load_part<V>(args.bias + unit, n) : V::zero();
            add_sums_for<V>(rows)(sums, 0, 1, 1, nullptr, y);
            for (int r = 0; r < rows; ++r) store_part(y[r], args.y + (b + r) * args.O + unit, n);
        }
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
