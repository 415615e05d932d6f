#include "options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "arguments.h"
#include "bindings.h"
#include "float_mode.h"
#include "gil.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr char kOptionsDoc[] =
    "CellOptions(cell, activations, gate_limit, cell_limit, coupled, peepholes, /)\n--\n\n"
    "What a cell does with its sums, where that is data. `activations` is a tuple with (name, alpha, beta) of each;\n"
    "the limits are positive numbers or None.";

constexpr Function kOptions{"", "", "CellOptions"};

struct OptionsObject {
    PyObject_HEAD Options options;
};

PyTypeObject* options_type = nullptr;

struct ActivationInfo {
    const char* name;
    int parameters;
    double alpha, beta;
};

constexpr ActivationInfo kActivations[] = {
#define FASTRNN_INFO(enumerator, arithmetic, parameters, alpha, beta) {#enumerator, parameters, alpha, beta},
    FASTRNN_ACTIVATIONS(FASTRNN_INFO)
#undef FASTRNN_INFO
};

double check_number(const Function& function, const char* argument, PyObject* value) {
    const double number = PyFloat_AsDouble(value);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        wrong_type(function.name(), argument, value, "a number");
    }
    return number;
}

// Infinity for None.
double check_limit(const char* argument, PyObject* value) {
    if (value == Py_None) return std::numeric_limits<double>::infinity();
    const double limit = check_number(kOptions, argument, value);
    if (!(limit > 0))
        throw py::value_error(kOptions.name() + ": " + argument + " is " + py::repr(value).cast<std::string>() +
                              ", expected a number above 0, or None");
    return limit;
}

template <class Real>
CellOptions<Real> converted(const Activation<double>* activation, double gate_limit, double cell_limit, bool coupled,
                            bool peepholes) {
    CellOptions<Real> options{};
    for (int i = 0; i < kMostActivations; ++i)
        options.activation[i] = {activation[i].kind, static_cast<Real>(activation[i].alpha),
                                 static_cast<Real>(activation[i].beta)};
    options.gate_limit = static_cast<Real>(gate_limit);
    options.cell_limit = static_cast<Real>(cell_limit);
    // What is beyond float32 is no limit there.
    options.limits_gates = std::isfinite(options.gate_limit);
    options.limits_cell = std::isfinite(options.cell_limit);
    options.coupled = coupled, options.peepholes = peepholes;
    return options;
}

PyObject* new_options(PyTypeObject*, PyObject* args, PyObject* keywords) {
    return with_python_errors([&] {
        expect_positional("CellOptions", args, keywords, 6);
        PyObject* const* const given = &PyTuple_GET_ITEM(args, 0);
        const Cell cell = find_cell(given[0]);
        const int count = info_of(cell).activations;
        if (!PyTuple_Check(given[1]) || PyTuple_GET_SIZE(given[1]) != count)
            wrong_type(kOptions.name(), "activations", given[1], "a tuple of " + std::to_string(count));
        Activation<double> activation[kMostActivations] = {};
        for (int i = 0; i < count; ++i) activation[i] = check_activation(kOptions, PyTuple_GET_ITEM(given[1], i));
        const double gate_limit = check_limit("gate_limit", given[2]);
        const double cell_limit = check_limit("cell_limit", given[3]);
        const bool coupled = check_bool(kOptions, "coupled", given[4]);
        const bool peepholes = check_bool(kOptions, "peepholes", given[5]);
        OptionsObject* const object = PyObject_New(OptionsObject, options_type);
        if (!object) throw py::error_already_set();
        new (&object->options) Options{cell, converted<float>(activation, gate_limit, cell_limit, coupled, peepholes),
                                       converted<double>(activation, gate_limit, cell_limit, coupled, peepholes)};
        return reinterpret_cast<PyObject*>(object);
    });
}

void deallocate_options(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject* call_activations(PyObject*, PyObject*) {
    return with_python_errors([&] {
        py::dict found;
        for (const ActivationInfo& info : kActivations) {
            const double parameter[] = {info.alpha, info.beta};
            py::tuple parameters(info.parameters);
            for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i] = parameter[i];
            found[info.name] = parameters;
        }
        return found.release().ptr();
    });
}

}  // namespace

template <class Real>
void look_at_limits(const Kernels<Real>& kernels, CellOptions<Real>* options) {
    if (!options || !options->limits_gates) return;
    const KernelFloatMode mode;
    for (int i = 0; i < 2; ++i) {
        const Real limits[] = {-options->gate_limit, options->gate_limit};
        Real value[2], slope[2];
        kernels.math.activation(options->activation[i], limits, value, slope, 2);
        options->gate_least[i] = std::min(value[0], value[1]), options->gate_most[i] = std::max(value[0], value[1]);
    }
}

template void look_at_limits(const Kernels<float>&, CellOptions<float>*);
template void look_at_limits(const Kernels<double>&, CellOptions<double>*);

Options check_options(const Function& function, Cell cell, PyObject* object) {
    const CellInfo& info = info_of(cell);
    if (info.activations == 0) {
        if (object && object != Py_None) wrong_type(function.name(), "options", object, "None");
        return {cell, {}, {}};
    }
    const std::string expected = std::string("the CellOptions of ") + info.name;
    if (!object || Py_TYPE(object) != options_type) wrong_type(function.name(), "options", object, expected);
    const Options& options = reinterpret_cast<OptionsObject*>(object)->options;
    if (options.cell != cell)
        throw py::value_error(function.name() + ": options are those of " + info_of(options.cell).name + ", expected " +
                              expected);
    return options;
}

Activation<double> check_activation(const Function& function, PyObject* activation) {
    if (!PyTuple_Check(activation) || PyTuple_GET_SIZE(activation) != 3)
        wrong_type(function.name(), "activation", activation, "a tuple (name, alpha, beta)");
    PyObject* const name = PyTuple_GET_ITEM(activation, 0);
    if (!PyUnicode_Check(name)) wrong_type(function.name(), "activation", name, "a string");
    int kind = 0;
    for (const ActivationInfo& info : kActivations) {
        if (PyUnicode_CompareWithASCIIString(name, info.name) == 0)
            return {static_cast<ActivationKind>(kind), check_number(function, "alpha", PyTuple_GET_ITEM(activation, 1)),
                    check_number(function, "beta", PyTuple_GET_ITEM(activation, 2))};
        ++kind;
    }
    throw py::value_error(function.name() + ": there is no activation called " + py::repr(name).cast<std::string>());
}

void bind_options(py::module_& m) {
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kOptionsDoc)},
                                  {Py_tp_new, reinterpret_cast<void*>(new_options)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate_options)},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.CellOptions", sizeof(OptionsObject), 0, Py_TPFLAGS_DEFAULT, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    options_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("CellOptions", type);
    static PyMethodDef functions[] = {
        {"activations", call_activations, METH_NOARGS,
         "activations($module, /)\n--\n\nReturn the default parameters of every activation, by name."},
        {}};
    if (PyModule_AddFunctions(m.ptr(), functions) != 0) throw py::error_already_set();
}

}  // namespace fastrnn
