// The Python object that carries a forward call's intermediate results to the backward call.
#pragma once

#include "buffer.h"
#include "contract.h"
#include "kernel_table.h"
#include "options.h"

namespace fastrnn {

// Arrays of a Regularisation, which nobody writes to.
struct Regularising {
    pybind11::object mask, keep[kMaxStates];
    Index keep_pitch = 0;

    Regularising() = default;
    explicit Regularising(const Inputs& in);

    template <class Real>
    Regularisation<Real> view() const {
        Regularisation<Real> regularisation{};
        if (mask) regularisation.mask = data_of<Real>(mask);
        for (int s = 0; s < kMaxStates; ++s)
            if (keep[s]) regularisation.keep[s] = data_of<Real>(keep[s]);
        regularisation.keep_pitch = keep_pitch;
        return regularisation;
    }
};

struct Tape {
    Cell cell;
    bool single;               // float32, not float64
    const KernelTable* table;  // whose kernels know the layout
    WeightFormat format;       // of the weights: there is a way back through plain ones only
    Sizes size;
    bool dense;  // no tokens
    TokenTable tokens;
    std::vector<Index> first_row;  // what size.first_row points to; empty if that is null
    Options options;
    Regularising regularising;
    Buffer memory;
};

pybind11::object make_tape(Tape&& tape);

// The tape in an object; null if it is none.
const Tape* tape_in(PyObject* object) noexcept;

}  // namespace fastrnn
