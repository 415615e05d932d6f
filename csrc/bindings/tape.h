// The Python object that carries a forward call's intermediate results to the backward call.
#pragma once

#include "buffer.h"
#include "contract.h"
#include "kernel_table.h"

namespace fastrnn {

struct Tape {
    Cell cell;
    bool single;               // float32, not float64
    const KernelTable* table;  // whose kernels know the layout
    Sizes size;
    bool dense;  // no tokens
    TokenTable tokens;
    std::vector<Index> first_row;  // what size.first_row points to; empty if that is null
    Buffer memory;
};

pybind11::object make_tape(Tape&& tape);

// The tape in an object; null if it is none.
const Tape* tape_in(PyObject* object) noexcept;

}  // namespace fastrnn
