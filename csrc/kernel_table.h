// What one ISA exports: plain data and function pointers, so that nothing compiled for one ISA can be picked by the
// linker for another. What is in kernels/ is compiled once per ISA and defines one table.
#pragma once

#include "cell.h"
#include "product.h"

namespace fastrnn {

// What the loop over time does to arrays beside products and cells, where vectors make it faster.
template <class Real>
struct ArrayKernels {
    // to (blocks of units, gates, lanes) = from (gates, units), zeros beyond the units. Null is zeros.
    void (*group_gates)(const Real* from, int gates, Index units, Real* to);
    // out (gates, lanes) = w + bias of n units of each gate; w's units are `unit_step` apart, and its gates
    // `gate_step`. Null bias is zeros; bias's gates are `bias_step` apart.
    void (*project_token)(const Real* w, Index unit_step, Index gate_step, const Real* bias, Index bias_step, int gates,
                          Index n, Real* out);
    // to (columns, to_pitch) = from (rows, from_pitch), transposed.
    void (*transpose)(const Real* from, Index from_pitch, Index rows, Index columns, Real* to, Index to_pitch);
    // sums (units) = the columns of rows (depth, pitch), added to them if they are to go on; `rest`, of the same shape:
    // what rounding has left out of them.
    void (*column_sums)(const Real* rows, Index pitch, Range units, Index depth, bool goes_on, Real* sums, Real* rest);
    // Adds each row of rows (depth, pitch) to the row of its token, of sums (D, sums_pitch). What rounding leaves out
    // goes to rests, (.., sums_pitch), in row rest_place[token] if that is not negative; without `rest_place` in the
    // token's own.
    void (*token_sums)(const Real* rows, Index pitch, Range units, const std::int32_t* slot, Index depth, Real* sums,
                       const std::int32_t* rest_place, Real* rests, Index sums_pitch);
    // Makes of n numbers what they are above their mean, over the root of their variance plus epsilon; returns 1 /
    // root.
    Real (*normalise)(Real* a, Index n);
    // Makes of d, the gradient by the n numbers `normalised`, that by the numbers that they were made of.
    void (*normalise_gradient)(const Real* normalised, Real scale, Index n, Real* d);
};

// The elementwise functions of kernels/math.h and cells/activations.h, reachable so that their bounds can be tested on
// every ISA.
template <class Real>
struct MathKernels {
    void (*exp)(const Real* in, Real* out, Index n);
    void (*tanh)(const Real* in, Real* out, Index n);
    void (*sigmoid)(const Real* in, Real* out, Index n);
    // out = f(in), slope = f'(in)
    void (*activation)(const Activation<Real>& f, const Real* in, Real* out, Real* slope, Index n);
};

// Everything for one real type.
template <class Real>
struct Kernels {
    int lanes_log2;                                           // of numbers in a vector
    const ProductKernels<Real>* product[kWeightFormatCount];  // of weights in each format
    const ColumnKernels<Real>* columns;
    const ArrayKernels<Real>* arrays;
    const CellTables<Real>* cells;
    void (*linear)(const LinearArgs<Real>&);
    MathKernels<Real> math;
};

// What the machine can do at best with this ISA's vectors; the benchmarks time these.
struct Probes {
    // Runs `iterations` rounds of independent products and additions in registers, of weights in each format; returns
    // how many operations that was. Plain ones are float32 FMAs, others null where the processor has no instruction for
    // them. *sink receives a value that keeps the work alive.
    double (*products[kWeightFormatCount])(Index iterations, float* sink);
    // Reads n floats once with plain vector loads; returns their sum.
    float (*read)(const float* data, Index n);
};

constexpr int kFingerprintLanes = 16;

struct KernelTable {
    const char* isa;  // "baseline", "avx2", "avx512", "neon"
    Kernels<float> f32;
    Kernels<double> f64;
    // Takes memory into the lanes of a fingerprint: see kernels/fingerprint.h.
    void (*fingerprint)(const void* data, std::size_t bytes, std::uint64_t* lanes);
    Probes probes;
};

template <class Real>
static inline const Kernels<Real>& kernels_of(const KernelTable& table) {
    if constexpr (sizeof(Real) == sizeof(float))
        return table.f32;
    else
        return table.f64;
}

}  // namespace fastrnn
