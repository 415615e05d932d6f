// What the objects of one ISA give each other: pieces of its table. Their names have the ISA's namespace.
#pragma once

#include "../kernel_table.h"

namespace fastrnn::FASTRNN_ISA {

#define FASTRNN_DECLARE(name)                                                                              \
    extern const ProductKernels<float> name##_float32;                                                     \
    extern const ProductKernels<double> name##_float64;                                                    \
    extern const ProductKernels<float> name##_dot_float32; /* if they are compiled: see cmake/isa.cmake */ \
    double name##_dot_probe(Index iterations, float* sink);
FASTRNN_WEIGHT_FORMATS(FASTRNN_DECLARE)
#undef FASTRNN_DECLARE
extern const ColumnKernels<float> columns_float32;
extern const ColumnKernels<double> columns_float64;
extern const CellTables<float> cells_float32;
extern const CellTables<double> cells_float64;
void activation_float32(const Activation<float>&, const float* in, float* out, float* slope, Index n);
void activation_float64(const Activation<double>&, const double* in, double* out, double* slope, Index n);
void linear_float32(const LinearArgs<float>&);
void linear_float64(const LinearArgs<double>&);

}  // namespace fastrnn::FASTRNN_ISA
