// What tests and benchmarks look into; none of it is public.
#include <algorithm>
#include <stdexcept>

#include "bindings.h"
#include "contract.h"
#include "dispatch.h"
#include "float_mode.h"
#include "gil.h"
#include "options.h"

namespace py = pybind11;
using namespace py::literals;

namespace fastrnn {
namespace {

py::object product_flops(int iterations, const py::object& weights) {
    const Function function{"", "", "_product_flops"};
    const WeightFormat format = find_format(function, weights.ptr());
    const auto probe = active_table().probes.products[static_cast<int>(format)];
    if (!probe) return py::none();
    constexpr Index at_once = 1 << 20;
    float sink;
    double flops = 0;
    in_parts(iterations, at_once, [&](Index begin, Index end) {
        flops += probe(end - begin, &sink);
        return true;
    });
    return py::float_(flops);
}

double read_bytes(const py::object& array, int repeats) {
    const Floats floats("_read_bytes", array.ptr());
    if (!floats.single) wrong_type("_read_bytes", "array", array.ptr(), "a NumPy array of float32");
    Copies copies;
    const float* const data = copies.data<float>(array.ptr());
    volatile float sum = 0;
    in_parts(repeats, 1, [&](Index, Index) {
        sum = active_table().probes.read(data, floats.size);
        return true;
    });
    return static_cast<double>(floats.size) * sizeof(float) * repeats;
}

template <class Real>
void apply(const MathKernels<Real>& math, const std::string& name, const Floats& in, const py::object& out) {
    void (*const function)(const Real*, Real*, Index) = name == "exp"       ? math.exp
                                                        : name == "tanh"    ? math.tanh
                                                        : name == "sigmoid" ? math.sigmoid
                                                                            : nullptr;
    if (!function) throw py::value_error("_math: there is no function " + name);
    Copies copies;
    const Real* const data = copies.data<Real>(in.array);
    const KernelFloatMode mode;
    function(data, data_of<Real>(out), in.size);
}

py::object math(const std::string& name, const py::object& array) {
    const Floats in("_math", array.ptr());
    py::object out = new_array(in.single, {in.size});
    if (in.single)
        apply(active_table().f32.math, name, in, out);
    else
        apply(active_table().f64.math, name, in, out);
    return out;
}

// (value, slope) of an activation, of the array's elements.
template <class Real>
void apply_activation(const MathKernels<Real>& math, const Activation<double>& f, const Floats& in,
                      const py::object& out, const py::object& slope) {
    Copies copies;
    const Real* const data = copies.data<Real>(in.array);
    const KernelFloatMode mode;
    math.activation({f.kind, static_cast<Real>(f.alpha), static_cast<Real>(f.beta)}, data, data_of<Real>(out),
                    data_of<Real>(slope), in.size);
}

py::tuple activation(const py::object& activation, const py::object& array) {
    const Function function{"", "", "_activation"};
    const Activation<double> f = check_activation(function, activation.ptr());
    const Floats in("_activation", array.ptr());
    const py::object out = new_array(in.single, {in.size}), slope = new_array(in.single, {in.size});
    if (in.single)
        apply_activation(active_table().f32.math, f, in, out, slope);
    else
        apply_activation(active_table().f64.math, f, in, out, slope);
    return py::make_tuple(out, slope);
}

void fail_in_worker(int rank, int threads) {
    Crew crew(threads, 1e9);  // worth waking all
    // Where the pool is in another call's hands, the caller's own thread is all there is.
    const int failing = std::clamp(rank, 0, crew.size() - 1);
    without_gil([&] {
        crew.run(
            crew.size(),
            [](const void* context, Team& team) {
                const int failing = *static_cast<const int*>(context);
                if (team.rank() == failing)
                    throw std::runtime_error("injected into thread " + std::to_string(team.rank()));
                for (;;) team.barrier();
            },
            &failing, nullptr);
    });
}

}  // namespace

void bind_probes(py::module_& m) {
    m.def("_product_flops", product_flops, "iterations"_a, "weights"_a = "float32",
          "Do nothing but multiply and add in registers on this thread, with weights in a format; return how many\n"
          "operations that was, or None where the processor has no instruction for products of the format.");
    m.def("_read_bytes", read_bytes, "array"_a, "repeats"_a = 1,
          "Do nothing but read the float32 array on this thread; return how many bytes that was.");
    m.def("_math", math, "name"_a, "array"_a,
          "Return the kernels' exp, tanh or sigmoid of the array's elements, as a vector.");
    m.def("_activation", activation, "activation"_a, "array"_a,
          "Return the values and slopes of the activation (name, alpha, beta) of the array's elements, as vectors.");
    m.def(
        "_fp_control", [](bool flags) { return read_float_mode() & ~(flags ? 0 : kFloatFlags); }, "flags"_a = false,
        "This thread's floating-point control register, MXCSR or FPCR. The flags of exceptions, which NumPy clears,\n"
        "are left out unless asked for; FPCR has none.");
    m.def("_fail_in_worker", fail_in_worker, "rank"_a, "threads"_a,
          "Run a team in which this member throws and all others wait for it; raises RuntimeError.");
}

}  // namespace fastrnn
