#include "tape.h"

#include <new>
#include <utility>

#include "bindings.h"
#include "run.h"

namespace py = pybind11;

namespace fastrnn {
namespace {

constexpr char kDoc[] =
    "What a forward call with training=True leaves for the backward call of the same family.\n\n"
    "It owns all that backward needs: the arrays that were passed to forward may be changed or deleted. It may be "
    "used\n"
    "more than once, and from several threads. From weights in another format than 'float32' it is for `trace` alone.";

struct TapeObject {
    PyObject_HEAD Tape tape;
};

PyTypeObject* tape_type = nullptr;

void deallocate(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    reinterpret_cast<TapeObject*>(self)->tape.~Tape();
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject* repr(PyObject* self) {
    const Tape& tape = reinterpret_cast<TapeObject*>(self)->tape;
    return PyUnicode_FromFormat("<fastrnn tape: %s, %s, T=%zd, B=%zd, I=%zd, H=%zd, %s>",
                                kCells[static_cast<int>(tape.cell)].name, tape.single ? "float32" : "float64",
                                tape.size.T, tape.size.B, tape.size.I, tape.size.H, tape.table->isa);
}

PyObject* nbytes(PyObject* self, void*) {
    const Tape& tape = reinterpret_cast<TapeObject*>(self)->tape;
    const Index bytes = tape.single
                            ? tape_size<float>(*tape.table, tape.cell, tape.size, tape.format) * Index{sizeof(float)}
                            : tape_size<double>(*tape.table, tape.cell, tape.size, tape.format) * Index{sizeof(double)};
    return PyLong_FromSsize_t(bytes);
}

// Without this, copy.copy() would try to make an empty one.
PyObject* reduce(PyObject*, PyObject*) {
    PyErr_SetString(PyExc_TypeError, "a tape cannot be copied or pickled");
    return nullptr;
}

}  // namespace

Regularising::Regularising(const Inputs& in) {
    if (in.mask) mask = py::reinterpret_borrow<py::object>(in.mask);
    for (int s = 0; s < kMaxStates; ++s) {
        if (!in.keep[s]) continue;
        keep[s] = py::reinterpret_borrow<py::object>(in.keep[s]);
        // One row for all, or one for each: the same of both states.
        const Index pitch = py::reinterpret_borrow<py::array>(keep[s]).shape(0) == 1 ? 0 : in.size.H;
        if (s > 0 && keep[0] && pitch != keep_pitch)
            throw py::value_error(in.function.name() + ": keep has different numbers of rows for h and c");
        keep_pitch = pitch;
    }
}

void bind_tape(py::module_& m) {
    static PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, "Raises TypeError."}, {}};
    static PyGetSetDef properties[] = {{"nbytes", nbytes, nullptr, "Bytes of memory that the tape takes.", nullptr},
                                       {}};
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kDoc)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
                                  {Py_tp_repr, reinterpret_cast<void*>(repr)},
                                  {Py_tp_methods, methods},
                                  {Py_tp_getset, properties},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.Tape", sizeof(TapeObject), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    tape_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("Tape", type);
}

py::object make_tape(Tape&& tape) {
    TapeObject* const object = PyObject_New(TapeObject, tape_type);
    if (!object) throw py::error_already_set();
    new (&object->tape) Tape(std::move(tape));
    return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(object));
}

const Tape* tape_in(PyObject* object) noexcept {
    return Py_TYPE(object) == tape_type ? &reinterpret_cast<TapeObject*>(object)->tape : nullptr;
}

}  // namespace fastrnn
