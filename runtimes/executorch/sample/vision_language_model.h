// The parts of a bundle, run by ExecuTorch: pixels and token ids in, token ids out. C++17.
//
// Link with extension_module, extension_tensor, the kernels and the backend of the bundle
// (xnnpack_backend): docs.pytorch.org/executorch/stable/using-executorch-cpp.html. Numbers of the
// contract come from the program itself (get_...), so that no JSON is read.
//
//     edgevlm::VisionLanguageModel model("cat.edgevlm/executorch/model.pte");
//     std::vector<int64_t> ids = model.answer(pixels, before, after, {2});
//
// pixels: [1,3,H,W], as processor/preprocessor.json says; ids: of processor/tokenizer.json. Greedy, and
// token for token what `edgevlm run` says; a test of edgevlm links this with executorch 1.5.1 and asks.

#pragma once

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgevlm {

class VisionLanguageModel {
 public:
  // Methods share their memory (the last argument): prefill writes the caches that decode reads.
  explicit VisionLanguageModel(const std::string& program)
      : module_(program, Module::LoadMode::File, nullptr, nullptr, nullptr, true) {
    height_ = number("get_image_height");
    across_ = number("get_image_width");
    kept_ = number("get_image_tokens");
    places_ = number("get_image_places");
    renumbered_ = number("get_renumbered") != 0;
    text_ = number("get_prompt_capacity");
    capacity_ = number("get_max_seq_len");
    width_ = number("get_width");
    seen_ = number("get_vision_width");
    sited_ = check(module_.method_meta("prefill"), "prefill").num_inputs() > 3;
  }

  // Token ids of an answer. before, after: prompt ids in front of and behind the image.
  std::vector<int64_t> answer(std::vector<float> pixels, const std::vector<int64_t>& before,
                              const std::vector<int64_t>& after, const std::set<int64_t>& ends) {
    const int64_t head = before.size(), tail = after.size();
    if (head + tail > text_) throw std::invalid_argument("the prompt is too long");
    if (int64_t(pixels.size()) != 3l * height_ * across_) throw std::invalid_argument("a picture of another size");
    auto [image, where] = encoded(std::move(pixels));
    std::vector<int64_t> ids(before);
    ids.insert(ids.end(), after.begin(), after.end());
    const auto text = embedded(ids);
    // before | image | after | padding; text keeps its positions of all image tokens
    const int64_t rows = kept_ + text_, span = renumbered_ ? kept_ : places_;
    std::vector<float> embeds(rows * width_, 0.0f);
    std::copy_n(text.begin(), head * width_, embeds.begin());
    std::copy(image.begin(), image.end(), embeds.begin() + head * width_);
    std::copy_n(text.begin() + head * width_, tail * width_, embeds.begin() + (head + kept_) * width_);
    std::vector<int64_t> positions(rows);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = row - head;  // among the image tokens, or behind them
      positions[row] = at < 0 ? row : head + (at >= kept_ ? span + at - kept_ : renumbered_ ? at : where[at]);
    }
    std::vector<TensorPtr> prompt{tensor(embeds, {1, int32_t(rows), width_}),
                                  tensor(positions, {1, int32_t(rows)}),
                                  tensor(std::vector<int64_t>{head + kept_ + tail - 1}, {1})};
    if (sited_) prompt.push_back(tensor(std::vector<int64_t>{head}, {1}));  // decoder layers drop some
    auto logits = run("prefill", prompt).floats;
    std::vector<int64_t> found;
    for (int64_t filled = head + kept_ + tail, position = head + span + tail;; ++filled, ++position) {
      const int64_t token = std::max_element(logits.begin(), logits.end()) - logits.begin();
      if (ends.count(token)) return found;
      found.push_back(token);
      if (filled == capacity_) return found;
      auto row = embedded({token});
      row.resize(width_);
      logits = run("decode", {tensor(row, {1, 1, width_}), tensor(std::vector<int64_t>{position}, {1, 1}),
                              tensor(std::vector<int64_t>{filled}, {1})}).floats;  // its row of the caches
    }
  }

 private:
  using Module = executorch::extension::Module;
  using TensorPtr = executorch::extension::TensorPtr;
  using EValue = executorch::runtime::EValue;

  struct Made {
    std::vector<float> floats;
    std::vector<int64_t> index;  // the second output of what drops image tokens
  };

  // What the connector kept of an image, and where in its grid that was.
  std::pair<std::vector<float>, std::vector<int64_t>> encoded(std::vector<float> pixels) {
    auto seen = run("vision", {tensor(std::move(pixels), {1, 3, height_, across_})});
    std::vector<int64_t> where(places_);
    std::iota(where.begin(), where.end(), 0);
    if (!seen.index.empty()) where = seen.index;
    const int32_t tokens = int32_t(seen.floats.size()) / seen_;
    auto out = run("connector", {tensor(std::move(seen.floats), {1, tokens, seen_})});
    for (auto& place : out.index) place = where.at(place);
    return {std::move(out.floats), out.index.empty() ? where : out.index};
  }

  std::vector<float> embedded(std::vector<int64_t> ids) {
    ids.resize(text_, 0);
    return run("embed", {tensor(std::move(ids), {1, text_})}).floats;
  }

  template <typename T>
  static TensorPtr tensor(std::vector<T> data, std::vector<int32_t> sizes) {
    return executorch::extension::make_tensor_ptr(std::move(sizes), std::move(data));
  }

  // Copies: what comes out lies in memory that the next call writes to.
  Made run(const std::string& method, const std::vector<TensorPtr>& inputs) {
    const std::vector<EValue> given(inputs.begin(), inputs.end());
    const auto out = check(module_.execute(method, given), method);
    Made made{values<float>(out.at(0)), {}};
    if (out.size() > 1) made.index = values<int64_t>(out.at(1));
    return made;
  }

  template <typename T>
  static std::vector<T> values(const EValue& value) {
    const auto& tensor = value.toTensor();
    return {tensor.const_data_ptr<T>(), tensor.const_data_ptr<T>() + tensor.numel()};
  }

  int32_t number(const std::string& method) {
    return int32_t(check(module_.execute(method), method).at(0).toInt());
  }

  template <typename T>
  static T check(executorch::runtime::Result<T> made, const std::string& method) {
    if (!made.ok()) throw std::runtime_error("the program does not run " + method);
    return std::move(made.get());
  }

  Module module_;
  int32_t height_, across_, kept_, places_, text_, capacity_, width_, seen_;
  bool renumbered_, sited_;
};

}  // namespace edgevlm
