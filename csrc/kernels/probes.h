// What the machine can do at best with these vectors, for the benchmarks to set beside what the kernels do.
#pragma once

#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

double probe_fma(Index iterations, float* sink) {
    using V = Vec<float>;
    // A tile like those of multiply(), in two dimensions: GCC would leave one long array of sums in memory.
    constexpr int rows = V::kRegisters == 32 ? 6 : 3;
    V sum[rows][kMaxWidth];
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < kMaxWidth; ++v) sum[r][v] = V::broadcast(static_cast<float>(r * kMaxWidth + v));
    const V shrink = V::broadcast(0.999f), grow = V::broadcast(0.001f);
    for (Index k = 0; k < iterations; ++k)
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < kMaxWidth; ++v) sum[r][v] = fma(sum[r][v], shrink, grow);
    V total = V::zero();
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < kMaxWidth; ++v) total = total + sum[r][v];
    float lanes[V::kLanes];
    total.store(lanes);
    *sink = lanes[0];
    return 2.0 * V::kLanes * rows * kMaxWidth * static_cast<double>(iterations);
}

float probe_read(const float* data, Index n) {
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
