#include "arguments.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>

namespace py = pybind11;

namespace fastrnn {

int Signature::find(PyObject* keyword) const {
    for (int i = 0; i < count; ++i)
        if (PyUnicode_CompareWithASCIIString(keyword, name[i]) == 0) return i;
    throw py::type_error(std::string(function) + "() got an unexpected keyword argument '" +
                         py::str(keyword).cast<std::string>() + "'");
}

void Signature::parse(PyObject* const* args, Py_ssize_t given, PyObject* keywords, PyObject** values) const {
    if (given > positional)
        throw py::type_error(std::string(function) + "() takes at most " + std::to_string(positional) +
                             " positional arguments (" + std::to_string(given) + " given)");
    std::fill(std::copy(args, args + given, values), values + count, nullptr);
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    for (Py_ssize_t k = 0; k < named; ++k) {
        const int i = find(PyTuple_GET_ITEM(keywords, k));
        if (values[i])
            throw py::type_error(std::string(function) + "() got multiple values for argument '" + name[i] + "'");
        values[i] = args[given + k];
    }
    for (int i = 0; i < required; ++i)
        if (!values[i]) throw py::type_error(std::string(function) + "() missing required argument '" + name[i] + "'");
}

void expect_count(const char* function, Py_ssize_t given, Py_ssize_t expected) {
    if (given != expected)
        throw py::type_error(std::string(function) + "() takes exactly " + std::to_string(expected) + " arguments (" +
                             std::to_string(given) + " given)");
}

void expect_positional(const char* type, PyObject* args, PyObject* keywords, Py_ssize_t expected) {
    expect_count(type, PyTuple_GET_SIZE(args), expected);
    if (keywords && PyDict_GET_SIZE(keywords) > 0)
        throw py::type_error(std::string(type) + "() takes no keyword arguments");
}

}  // namespace fastrnn
