#include "sums.h"

#include <new>
#include <stdexcept>

#include "arguments.h"
#include "bindings.h"
#include "gil.h"

namespace py = pybind11;

namespace fastrnn {

struct SumsObject {
    PyObject_HEAD Sums sums;
    Busy busy;
};

namespace {

constexpr char kSumsDoc[] =
    "Sums()\n--\n\n"
    "Gradients of the weights of one layer, summed over backward calls for parts of a sequence:\n"
    "what they would be for all of it, to the bit.";

PyTypeObject* sums_type = nullptr;

PyObject* new_sums(PyTypeObject*, PyObject* args, PyObject* keywords) {
    return with_python_errors([&] {
        expect_positional("Sums", args, keywords, 0);
        SumsObject* const object = PyObject_New(SumsObject, sums_type);
        if (!object) throw py::error_already_set();
        new (&object->sums) Sums{};
        new (&object->busy) Busy;
        return reinterpret_cast<PyObject*>(object);
    });
}

void deallocate_sums(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    reinterpret_cast<SumsObject*>(self)->sums.~Sums();
    PyObject_Free(self);
    Py_DECREF(type);
}

template <class Real>
void settle(Sums& sums) {
    const Real* rest = sums.rest<Real>();
    const Index rows = info_of(sums.cell).gates * sums.H;
    const Index count[] = {rows, rows, info_of(sums.cell).learned * sums.H, sums.dense ? 0 : rows * sums.I};
    constexpr int order[] = {2, 3, 4, 0};  // of the arrays in BackwardArgs::rest
    for (int i = 0; i < 4; rest += count[i], ++i) {
        if (!sums.array[order[i]]) continue;
        Real* const sum = data_of<Real>(sums.array[order[i]]);
        in_parts(count[i], kNumbersAtOnce, [&](Index begin, Index end) {
            for (Index k = begin; k < end; ++k) sum[k] += rest[k];
            return true;
        });
    }
}

PyObject* finish_sums(PyObject* self, PyObject*) {
    return with_python_errors([&] {
        const TakenSums taken({"", "", "Sums.finish"}, self);
        Sums& sums = *taken.get();
        if (!sums.started) throw py::value_error("Sums.finish: there was no backward call before");
        if (sums.single)
            settle<float>(sums);
        else
            settle<double>(sums);
        py::tuple arrays(Sums::kCount);
        for (int i = 0; i < Sums::kCount; ++i)
            arrays[static_cast<std::size_t>(i)] = sums.array[i] ? sums.array[i] : py::object(py::none());
        sums = Sums{};
        return arrays.release().ptr();
    });
}

}  // namespace

bool Sums::fit(const Function& function, const Tape& tape) {
    if (started) {
        if (cell != tape.cell || single != tape.single || dense != tape.dense || I != tape.size.I || H != tape.size.H ||
            P != tape.size.P)
            throw py::value_error(function.name() + ": sums are those of another layer than the tape's");
        return true;
    }
    cell = tape.cell, single = tape.single, dense = tape.dense;
    I = tape.size.I, H = tape.size.H, P = tape.size.P;
    const CellInfo& info = info_of(cell);
    const Index rows = info.gates * H, recurrent = info.recurrent * H;
    array[0] = new_array(single, {rows, I});
    if (recurrent > 0)
        array[1] = projects(info) ? new_array(single, {recurrent * P}) : new_array(single, {recurrent, H});
    array[2] = new_array(single, {rows});
    array[3] = new_array(single, {rows});
    if (info.learned > 0) array[4] = new_array(single, {info.learned, H});
    return false;
}

Index Sums::rest_count() const {
    const CellInfo& info = info_of(cell);
    return (2 * info.gates + info.learned) * H + (dense ? 0 : info.gates * H * I);
}

TakenSums::TakenSums(const Function& function, PyObject* object)
    : object_(object == Py_None ? nullptr : reinterpret_cast<SumsObject*>(object)) {
    if (!object_) return;
    if (Py_TYPE(object) != sums_type) wrong_type(function.name(), "sums", object, "Sums or None");
    if (!object_->busy.take()) throw std::runtime_error(function.name() + ": another thread adds to these sums");
}

TakenSums::~TakenSums() {
    if (object_) object_->busy.give_back();
}

Sums* TakenSums::get() const { return object_ ? &object_->sums : nullptr; }

void bind_sums(py::module_& m) {
    static PyMethodDef methods[] = {
        {"finish", finish_sums, METH_NOARGS,
         "finish($self, /)\n--\n\nReturn (dw_ih, dw_hh, db_ih, db_hh, dvectors), and start anew."},
        {}};
    static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kSumsDoc)},
                                  {Py_tp_new, reinterpret_cast<void*>(new_sums)},
                                  {Py_tp_dealloc, reinterpret_cast<void*>(deallocate_sums)},
                                  {Py_tp_methods, methods},
                                  {0, nullptr}};
    static PyType_Spec spec = {"fastrnn._core.Sums", sizeof(SumsObject), 0, Py_TPFLAGS_DEFAULT, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (!type) throw py::error_already_set();
    sums_type = reinterpret_cast<PyTypeObject*>(type);  // keeps this reference for the life of the process
    m.add_object("Sums", type);
}

}  // namespace fastrnn
