// The core on a command line, without Python: for other processors, emulators, sanitizers and
// instruction counters. tests/driver.py writes its problems and reads its results.
//
//     pyoip_driver info                        compiler and instruction sets
//     pyoip_driver PROBLEM RESULTS [THREADS]   THREADS is 1 unless given
//
// A problem is a list of commands, a result the arrays that they ask for, one after another:
// little-endian, no padding. A command is its name in 8 characters, filled up with blanks, and
// its arguments; i int32, u uint32, U uint64, f float32, kinds as numbered in stack.hpp.
//
//     stack     i channels height width layers, and for each layer
//               i in_channels in_height in_width maps out_height out_width kernel_h kernel_w
//                 stride_h stride_w pad_top pad_left activation   f slope
//               i pool pool_h pool_w pool_stride_h pool_stride_w pool_top pool_left
//                 pooled_height pooled_width
//               f weights (maps, in_channels, kernel_h, kernel_w)  bias (maps)
//     images    i count   f images (count, C, H, W)   i targets (count)
//     score     i objective
//               -> f scores (count, maps)
//     maps      -> f activations (count, maps, h, w)
//     gradient  i objective
//               -> f values (count, 2)  gradients (count, C, H, W)
//     ascend    i objective constraint steps patience smooth article
//               f low high momentum tolerance   i snapshot_count   i snapshots
//               f step_sizes (count)
//               -> f images (count, C, H, W)  history (count, steps + 1)
//                    snapshots (count, snapshot_count, C, H, W)  activations (count)
//                    preactivations (count)   i steps (count)  woke (count)  stops (count)
//     starts    i channels height width smoothing constraint   f low high   U seed   u stream
//               i scales, and for each scale   i cells_h cells_w   f weight
//               i count   U indices (count)
//               -> f images (count, C, H, W)
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include "cpu/engine.hpp"
#include "fluctuations.hpp"

namespace pyoip {
namespace {

static_assert(std::endian::native == std::endian::little, "problems and results are little-endian");

class Reader {
public:
    explicit Reader(const char* path) : file_(path, std::ios::binary) {
        if (!file_) throw std::runtime_error(std::string(path) + ": cannot be read");
    }

    template <class Value>
    std::vector<Value> many(std::int64_t count) {
        if (count < 0 || count > (std::int64_t(1) << 28))
            throw std::runtime_error("the problem holds a count of " + std::to_string(count));
        std::vector<Value> values(static_cast<std::size_t>(count));
        const auto bytes = static_cast<std::streamsize>(values.size() * sizeof(Value));
        if (!file_.read(reinterpret_cast<char*>(values.data()), bytes))
            throw std::runtime_error("the problem ends too soon");
        return values;
    }

    template <class... Values>
    void into(Values&... values) {
        ((values = many<Values>(1)[0]), ...);
    }

    template <class Value>
    Value one() {
        return many<Value>(1)[0];
    }

    // A kind of stack.hpp, of which there are `kinds`.
    template <class Kind>
    Kind kind(int kinds) {
        const int number = one<std::int32_t>();
        if (number < 0 || number >= kinds)
            throw std::runtime_error("the problem holds a kind of " + std::to_string(number));
        return Kind(number);
    }

    bool at_end() { return file_.peek() == std::ifstream::traits_type::eof(); }

private:
    std::ifstream file_;
};

class Writer {
public:
    explicit Writer(const char* path) : file_(path, std::ios::binary) {}

    template <class Value>
    void all(const std::vector<Value>& values) {
        file_.write(reinterpret_cast<const char*>(values.data()),
                    static_cast<std::streamsize>(values.size() * sizeof(Value)));
    }

    void close(const char* path) {
        file_.close();
        if (!file_) throw std::runtime_error(std::string(path) + ": cannot be written");
    }

private:
    std::ofstream file_;
};

using Floats = std::vector<float>;
using Integers = std::vector<std::int32_t>;

Floats floats(std::int64_t count) { return Floats(static_cast<std::size_t>(count)); }

Objective objective_from(Reader& in) { return in.kind<Objective>(2); }
Constraint constraint_from(Reader& in) { return in.kind<Constraint>(2); }

ConvLayer layer_from(Reader& in) {
    ConvLayer l;
    in.into(l.in_channels, l.in_height, l.in_width, l.maps, l.out_height, l.out_width, l.kernel_h, l.kernel_w,
            l.stride_h, l.stride_w, l.pad_top, l.pad_left);
    l.activation = in.kind<Activation>(std::size(kActivationNames));
    in.into(l.slope);
    l.pool = in.kind<Pool>(3);
    in.into(l.pool_h, l.pool_w, l.pool_stride_h, l.pool_stride_w, l.pool_top, l.pool_left, l.pooled_height,
            l.pooled_width);
    l.weights = in.many<float>(std::int64_t(l.maps) * l.in_channels * l.kernel_h * l.kernel_w);
    l.bias = in.many<float>(l.maps);
    return l;
}

Stack stack_from(Reader& in) {
    Stack stack;
    in.into(stack.channels, stack.height, stack.width);
    for (int layers = in.one<std::int32_t>(); layers > 0; --layers) stack.layers.push_back(layer_from(in));
    return stack;
}

// What the commands share: the last stack and the last images.
struct Driver {
    int threads;
    std::unique_ptr<cpu::Engine> engine_;
    std::int64_t count = 0;
    Floats images_;
    Integers targets;

    const cpu::Engine& engine() const {
        if (!engine_) throw std::runtime_error("the problem has no stack before this command");
        return *engine_;
    }
    const cpu::Plan& plan() const { return engine().plan(); }
    const cpu::LayerPlan& target() const { return plan().layers[plan().layer_count - 1]; }

    void stack(Reader& in) {
        engine_ = std::make_unique<cpu::Engine>(stack_from(in));
        count = 0;
    }

    void images(Reader& in) {
        const std::int64_t given = in.one<std::int32_t>();
        images_ = in.many<float>(given * plan().pixels);
        targets = in.many<std::int32_t>(given);
        for (const int map : targets)
            if (map < 0 || map >= target().maps)
                throw std::runtime_error("the problem holds the target " + std::to_string(map));
        count = given;
    }

    void score(Reader& in, Writer& out) const {
        const Objective objective = objective_from(in);
        Floats scores = floats(count * target().maps);
        engine().score(images_.data(), count, objective, threads, {}, scores.data());
        out.all(scores);
    }

    void maps(Writer& out) const {
        Floats found = floats(count * target().maps * target().positions);
        engine().activations(images_.data(), count, threads, {}, found.data());
        out.all(found);
    }

    void gradient(Reader& in, Writer& out) const {
        const Objective objective = objective_from(in);
        Floats values = floats(2 * count), gradients = floats(count * plan().pixels);
        engine().gradient(images_.data(), targets.data(), count, objective, threads, {}, values.data(),
                          gradients.data());
        out.all(values), out.all(gradients);
    }

    void ascend(Reader& in, Writer& out) const {
        AscentSettings s;
        s.objective = objective_from(in);
        s.constraint = constraint_from(in);
        in.into(s.steps, s.patience, s.smooth);
        s.article = in.one<std::int32_t>() != 0;
        in.into(s.low, s.high, s.momentum, s.tolerance, s.snapshot_count);
        const Integers snapshots = in.many<std::int32_t>(s.snapshot_count);
        s.snapshots = snapshots.data();
        const Floats sizes = in.many<float>(count);
        if (s.steps < 0) throw std::runtime_error("the problem holds steps=" + std::to_string(s.steps));

        const std::int64_t pixels = plan().pixels, points = s.steps + 1, kept = s.snapshot_count * pixels;
        Floats best = floats(count * pixels), history = floats(count * points), shots = floats(count * kept);
        Floats activations = floats(count), preactivations = floats(count);
        Integers steps(targets.size()), woke(targets.size());
        std::vector<Stop> stops(targets.size());
        std::vector<AscentTask> tasks(targets.size());
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            const auto at = std::int64_t(i);
            tasks[i] = {images_.data() + at * pixels,
                        targets[i],
                        sizes[i],
                        best.data() + at * pixels,
                        history.data() + at * points,
                        shots.data() + at * kept,
                        &activations[i],
                        &preactivations[i],
                        &steps[i],
                        &woke[i],
                        &stops[i]};
        }
        engine().ascend(tasks.data(), count, s, threads, {});
        for (const Floats* array : {&best, &history, &shots, &activations, &preactivations}) out.all(*array);
        out.all(steps), out.all(woke), out.all(as_integers(stops));
    }

    static Integers as_integers(const std::vector<Stop>& stops) {
        Integers numbers;
        for (const Stop stop : stops) numbers.push_back(int(stop));
        return numbers;
    }

    void starts(Reader& in, Writer& out) const {
        FluctuationSettings s;
        int channels = 0, height = 0, width = 0;
        Mix mix;
        in.into(channels, height, width, mix.smoothing);
        s.constraint = constraint_from(in);
        in.into(s.low, s.high, s.seed, s.stream);
        for (int scales = in.one<std::int32_t>(); scales > 0; --scales) {
            s.scales.emplace_back();
            in.into(s.scales.back().height, s.scales.back().width, mix.weights.emplace_back());
        }
        s.mixes = {mix};
        const auto indices = in.many<std::uint64_t>(in.one<std::int32_t>());
        Floats made = floats(std::int64_t(indices.size()) * channels * height * width);
        start_images(s, channels, height, width, indices.data(), std::int64_t(indices.size()), made.data(),
                     threads, {});
        out.all(made);
    }

    void command(const std::string& name, Reader& in, Writer& out) {
        if (name == "stack   ") return stack(in);
        if (name == "images  ") return images(in);
        if (name == "score   ") return score(in, out);
        if (name == "maps    ") return maps(out);
        if (name == "gradient") return gradient(in, out);
        if (name == "ascend  ") return ascend(in, out);
        if (name == "starts  ") return starts(in, out);
        throw std::runtime_error("the problem holds an unknown command '" + name + "'");
    }
};

void solve(const char* problem, const char* results, int threads) {
    Reader in(problem);
    Writer out(results);
    Driver driver{threads, {}, 0, {}, {}};
    while (!in.at_end()) {
        const std::vector<char> name = in.many<char>(8);
        driver.command({name.begin(), name.end()}, in, out);
    }
    out.close(results);
}

void print_info() {
    std::cout << "compiler: " << PYOIP_COMPILER << "\ninstruction sets:";
    for (const cpu::Kernels* kernels : cpu::usable_kernels()) std::cout << ' ' << kernels->name;
    std::cout << '\n';
}

}  // namespace
}  // namespace pyoip

int main(int count, char** arguments) {
    const bool info = count == 2 && std::string(arguments[1]) == "info";
    if (!info && count != 3 && count != 4) {
        std::cerr << "usage: pyoip_driver info | pyoip_driver PROBLEM RESULTS [THREADS]\n";
        return 2;
    }
    try {
        if (info)
            pyoip::print_info();
        else
            pyoip::solve(arguments[1], arguments[2], count == 4 ? std::max(1, std::atoi(arguments[3])) : 1);
    } catch (const std::exception& error) {
        std::cerr << "pyoip_driver: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
