// The parts of the module, one function a file.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrnn {

void bind_cells(pybind11::module_& m);           // forward, backward, <family>_step
void bind_stream(pybind11::module_& m);          // Stream
void bind_tape(pybind11::module_& m);            // Tape
void bind_format_weights(pybind11::module_& m);  // FormatWeights
void bind_options(pybind11::module_& m);         // CellOptions
void bind_sums(pybind11::module_& m);            // Sums
void bind_settings(pybind11::module_& m);        // instruction set and number of threads
void bind_probes(pybind11::module_& m);          // what tests and benchmarks look into

}  // namespace fastrnn
