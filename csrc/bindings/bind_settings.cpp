#include <cstdlib>
#include <stdexcept>
#include <string>

#include "bindings.h"
#include "dispatch.h"
#include "thread_count.h"

namespace py = pybind11;
using namespace py::literals;

namespace fastrnn {
namespace {

py::tuple available_isas() {
    const std::vector<const KernelTable*> tables = supported_tables();
    py::tuple names(tables.size());
    for (std::size_t i = 0; i < tables.size(); ++i) names[i] = py::str(tables[i]->isa);
    return names;
}

void set_threads(const py::object& n) {
    const std::string expected = ", expected a whole number from 1 to " + std::to_string(kMaxThreads);
    const std::string got = "set_num_threads: n is " + py::repr(n).cast<std::string>();
    if (!PyIndex_Check(n.ptr()) || PyBool_Check(n.ptr())) throw py::type_error(got + expected);
    const Py_ssize_t value = PyNumber_AsSsize_t(n.ptr(), nullptr);  // clipped where it does not fit
    if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (value < 1 || value > kMaxThreads) throw py::value_error(got + expected);
    set_num_threads(static_cast<int>(value));
}

// What the environment says holds from the import on; what it cannot mean is an error there, not a guess.
void read_environment() {
    try {
        init_num_threads();
    } catch (const std::invalid_argument& error) {
        throw py::import_error(error.what());
    }
    const char* const isa = std::getenv("FASTRNN_ISA");
    if (!isa || !*isa) return;
    try {
        choose_table(isa);
    } catch (const std::invalid_argument& error) {
        throw py::import_error(std::string("FASTRNN_ISA: ") + error.what());
    }
}

}  // namespace

void bind_settings(py::module_& m) {
    read_environment();
    m.def("isa", [] { return active_table().isa; }, "The instruction set in use, one of available_isas().");
    m.def("available_isas", available_isas,
          "The instruction sets that this processor can run, best first. The environment variable FASTRNN_ISA chooses\n"
          "another one than the best when fastrnn is imported.");
    m.def("set_isa", choose_table, "isa"_a,
          "Choose the instruction set of calls from now on, for tests and benchmarks.");
    m.def("get_num_threads", get_num_threads,
          "How many threads a large call may use: what set_num_threads was given last; at first FASTRNN_NUM_THREADS, "
          "else\n"
          "OMP_NUM_THREADS, else the cores that this process may use, by its affinity and its control group's quota.");
    m.def("set_num_threads", set_threads, "n"_a,
          "Set how many threads a large call may use, from 1 to 1024. Results do not depend on it.");
}

}  // namespace fastrnn
