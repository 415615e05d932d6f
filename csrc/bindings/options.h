// The options of cells that have some: activations, limits and coupled gates, made once for a layer.
#pragma once

#include "contract.h"
#include "kernel_table.h"

namespace fastrnn {

struct Options {
    Cell cell{};
    CellOptions<float> single{};
    CellOptions<double> twice{};

    template <class Real>
    CellOptions<Real>* view() {
        if (info_of(cell).activations == 0) return nullptr;
        if constexpr (sizeof(Real) == sizeof(float))
            return &single;
        else
            return &twice;
    }
    template <class Real>
    const CellOptions<Real>* view() const {
        return const_cast<Options*>(this)->view<Real>();
    }
};

// Those of `cell`, from the object that was made for it, or None where it has none.
Options check_options(const Function& function, Cell cell, PyObject* object);

// Has what backward needs of the limits computed by these kernels, as forward does; null: a cell without options.
template <class Real>
void look_at_limits(const Kernels<Real>& kernels, CellOptions<Real>* options);

// The activation that Python names, with its parameters: (name, alpha, beta).
Activation<double> check_activation(const Function& function, PyObject* activation);

}  // namespace fastrnn
