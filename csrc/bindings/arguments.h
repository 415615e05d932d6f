// The arguments of functions that are called as C calls them (METH_FASTCALL | METH_KEYWORDS): pybind11's dispatcher
// takes longer than a small step does.
#pragma once

#include <Python.h>

namespace fastrnn {

// What a function accepts: names in order, of which the first `required` must be given and those from `positional` on
// are keyword-only. Missing arguments come out as null.
struct Signature {
    static constexpr int kMost = 8;

    const char* function;
    int count, required, positional;
    const char* name[kMost];

    // Fills `values` with borrowed references. Throws TypeError in Python's words.
    void parse(PyObject* const* args, Py_ssize_t given, PyObject* keywords, PyObject** values) const;

private:
    int find(PyObject* keyword) const;
};

// The checks of functions and types that take so many positional arguments, no more and no fewer.
void expect_count(const char* function, Py_ssize_t given, Py_ssize_t expected);
void expect_positional(const char* type, PyObject* args, PyObject* keywords, Py_ssize_t expected);

// A function for a table of methods, whatever its kind.
template <class F>
PyCFunction as_c(F* function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

}  // namespace fastrnn
