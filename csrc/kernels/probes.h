// What the machine can do at best with these vectors, for the benchmarks to set beside what the kernels do.
#pragma once

#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Rounds of a tile of sums, each of which becomes next(sum); returns how many lanes of sums that was.
template <class V, class Next>
double probe_tile(Index iterations, float* sink, Next next) {
    // In two dimensions, since GCC would leave one long array of sums in memory; and no more of them, written out,
    // since GCC copies sums of bytes once in each round of the loop.
    constexpr int rows = V::kRegisters == 32 ? 4 : 3;
    V sum[rows][kMaxWidth];
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < kMaxWidth; ++v) sum[r][v] = V::broadcast(static_cast<float>(r * kMaxWidth + v));
    FASTRNN_UNROLL_8
    for (Index k = 0; k < iterations; ++k)
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < kMaxWidth; ++v) sum[r][v] = next(sum[r][v]);
    V total = V::zero();
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < kMaxWidth; ++v) total = fma(total, sum[r][v], sum[r][v]);
    float lanes[V::kLanes];
    total.store(lanes);
    *sink = lanes[0];
    return static_cast<double>(V::kLanes * rows * kMaxWidth) * static_cast<double>(iterations);
}

inline double probe_fma(Index iterations, float* sink) {
    using V = Vec<float>;
    const V shrink = V::broadcast(0.999f), grow = V::broadcast(0.001f);
    return 2 * probe_tile<V>(iterations, sink, [&](V sum) { return fma(sum, shrink, grow); });
}

// Of products of words: see ../product/words.h.
template <class Format>
double probe_dots(Index iterations, float* sink) {
    using V = typename Format::Vector;
    const V x = V::broadcast(0.999f), w = V::broadcast(0.001f);
    return 2 * Format::kOfWord * probe_tile<V>(iterations, sink, [&](V sum) { return fma(x, w, sum); });
}

inline float probe_read(const float* data, Index n) {
    using V = Vec<float>;
    constexpr Index stride = 8 * V::kLanes;
    V sum[8];
    for (V& s : sum) s = V::zero();
    Index i = 0;
    for (; i + stride <= n; i += stride)
        for (int j = 0; j < 8; ++j) sum[j] = sum[j] + V::load(data + i + j * V::kLanes);
    for (; i < n; ++i) sum[0] = sum[0] + V::broadcast(data[i]);
    for (int j = 1; j < 8; ++j) sum[0] = sum[0] + sum[j];
    float lanes[V::kLanes], total = 0;
    sum[0].store(lanes);
    for (const float lane : lanes) total += lane;
    return total;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
