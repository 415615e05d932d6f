// The options of cells that have some: activations, limits and coupled gates, made once for a layer.
#pragma once

#include "contract.h"
#include "kernel_table.h"

namespace fastrnn {

struct Options {
    Cell cell{};
    CellOptions<float> single{};
    CellOptions<double> twice{};

    // Has what backward needs of the limits computed by the kernels of a table, as forward does.
    void look_at_limits(const KernelTable& table);

    template <class Real>
    const CellOptions<Real>* view() const {
        if (info_of(cell).activations == 0) return nullptr;
        if constexpr (sizeof(Real) == sizeof(float))
            return &single;
        else
            return &twice;
    }
};

// Those of `cell`, from the object that was made for it, or None where it has none.
Options check_options(const Function& function, Cell cell, PyObject* object);

// The activation that Python names, with its parameters: (name, alpha, beta).
Activation<double> check_activation(const Function& function, PyObject* activation);

}  // namespace fastrnn
