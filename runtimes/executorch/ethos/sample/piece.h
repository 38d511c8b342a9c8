// One piece of a part (ethos/NAME.pte) on a microcontroller with an Ethos-U: no heap, no files. C++17.
//
// Link with executorch, portable_ops and executorch_delegate_ethos_u, and the Ethos-U core driver:
// docs.pytorch.org/executorch/stable/backends-arm-ethos-u.html. The pieces of a part, their order and
// the names of their inputs and outputs stand in manifest.json, artifacts[].settings.pieces; values go
// from one to the next by name. Checked against the headers of executorch 1.5.1; not linked here.
//
//     alignas(16) static const uint8_t vision[] = {...};            // xxd -i ethos/vision.pte
//     alignas(16) static uint8_t planned[PLANNED], methods[8192], scratch[SCRATCH];
//     edgevlm::Piece piece(vision, sizeof(vision), {methods, 8192}, {planned, PLANNED}, {scratch, SCRATCH});
//     if (piece.load() == executorch::runtime::Error::Ok) {
//       piece.set(0, patches);                                      // a TensorImpl's Tensor, float
//       if (piece.run() == executorch::runtime::Error::Ok) use(piece.get(0));
//     }
//
// SCRATCH: the SRAM that Vela plans, in ethos/NAME.0.summary.csv (sram_memory_used, KiB). PLANNED:
// piece.planned_bytes() after load() has failed with MemoryAllocationFailed says what is wanted.

#pragma once

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace edgevlm {

class Piece {
 public:
  using Error = executorch::runtime::Error;
  using EValue = executorch::runtime::EValue;
  using Memory = executorch::runtime::Span<uint8_t>;
  using Tensor = executorch::aten::Tensor;

  // methods: structures of the runtime; planned: tensors between ops; scratch: of the NPU.
  Piece(const void* program, size_t size, Memory methods, Memory planned, Memory scratch)
      : loader_(program, size),
        methods_(methods.size(), methods.data()),
        scratch_(scratch.size(), scratch.data()),
        memory_(planned),
        planned_({&memory_, 1}),
        manager_(&methods_, &planned_, &scratch_) {}

  Error load() {
    auto program = executorch::runtime::Program::load(&loader_);
    if (!program.ok()) return program.error();
    program_.emplace(std::move(program.get()));
    auto told = program_->method_meta(kMethod);
    if (!told.ok()) return told.error();
    wanted_ = 0;
    for (size_t i = 0; i < told->num_memory_planned_buffers(); ++i) {
      wanted_ += told->memory_planned_buffer_size(i).get();
    }
    if (told->num_memory_planned_buffers() > 1 || wanted_ > memory_.size()) {
      return Error::MemoryAllocationFailed;
    }
    auto method = program_->load_method(kMethod, &manager_);
    if (!method.ok()) return method.error();
    method_.emplace(std::move(method.get()));
    return Error::Ok;
  }

  size_t planned_bytes() const { return wanted_; }

  Error set(size_t input, const Tensor& value) { return method_->set_input(EValue(value), input); }

  Error run() { return method_->execute(); }

  const Tensor& get(size_t output) const { return method_->get_output(output).toTensor(); }

 private:
  static constexpr const char* kMethod = "forward";

  executorch::extension::BufferDataLoader loader_;
  executorch::runtime::MemoryAllocator methods_, scratch_;
  Memory memory_;
  executorch::runtime::HierarchicalAllocator planned_;
  executorch::runtime::MemoryManager manager_;
  std::optional<executorch::runtime::Program> program_;
  std::optional<executorch::runtime::Method> method_;
  size_t wanted_ = 0;
};

}  // namespace edgevlm
