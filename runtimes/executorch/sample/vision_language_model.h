// The parts of a bundle, run by ExecuTorch: pixels and token ids in, token ids out. C++17.
//
// Link with extension_module, extension_tensor and the backend of the bundle (xnnpack_backend):
// docs.pytorch.org/executorch/stable/using-executorch-cpp.html. Numbers of the contract come from the
// program itself (get_...), so that no JSON is read. Checked against the headers of executorch 1.5.1
// (extension/module, extension/tensor), which it compiles with; not linked here.
//
//     edgevlm::VisionLanguageModel model("cat.edgevlm/executorch/model.pte");
//     std::vector<int64_t> ids = model.answer(pixels, before, after, {2});
//
// For models that keep all of their image tokens; those that drop some return where they were as a
// second output (image_index), which VisionLanguageModel.kt shows how to use.

#pragma once

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgevlm {

class VisionLanguageModel {
 public:
  explicit VisionLanguageModel(const std::string& program) : module_(program) {
    height_ = number("get_image_height");
    across_ = number("get_image_width");
    kept_ = number("get_image_tokens");
    text_ = number("get_prompt_capacity");
    capacity_ = number("get_max_seq_len");
    width_ = number("get_width");
  }

  // Token ids of an answer. before, after: prompt ids in front of and behind the image.
  std::vector<int64_t> answer(std::vector<float> pixels, const std::vector<int64_t>& before,
                              const std::vector<int64_t>& after, const std::set<int64_t>& ends) {
    const int64_t head = before.size(), tail = after.size(), rows = kept_ + text_;
    if (head + tail > text_) throw std::invalid_argument("the prompt is too long");
    auto seen = run("vision", {tensor(pixels, {1, 3, height_, across_})});
    auto image = run("connector", {tensor(seen, {1, int32_t(seen.size()) / seen_width(), seen_width()})});
    std::vector<int64_t> ids(before);
    ids.insert(ids.end(), after.begin(), after.end());
    auto text = embedded(ids);
    std::vector<float> embeds(rows * width_, 0.0f);
    std::copy_n(text.begin(), head * width_, embeds.begin());
    std::copy(image.begin(), image.end(), embeds.begin() + head * width_);
    std::copy_n(text.begin() + head * width_, tail * width_, embeds.begin() + (head + kept_) * width_);
    std::vector<int64_t> positions(rows), last{head + kept_ + tail - 1};
    for (int64_t row = 0; row < rows; ++row) positions[row] = row;
    auto logits = run("prefill", {tensor(embeds, {1, int32_t(rows), width_}),
                                  tensor(positions, {1, int32_t(rows)}), tensor(last, {1})});
    std::vector<int64_t> found;
    for (int64_t filled = head + kept_ + tail;; ++filled) {
      const int64_t token = std::max_element(logits.begin(), logits.end()) - logits.begin();
      if (ends.count(token)) return found;
      found.push_back(token);
      if (filled == capacity_) return found;
      auto row = embedded({token});
      row.resize(width_);
      std::vector<int64_t> place{filled};  // of the token among all, and of its row in the caches
      logits = run("decode", {tensor(row, {1, 1, width_}), tensor(place, {1, 1}), tensor(place, {1})});
    }
  }

 private:
  using TensorPtr = executorch::extension::TensorPtr;
  using EValue = executorch::runtime::EValue;

  template <typename T>
  static TensorPtr tensor(std::vector<T> data, std::vector<int32_t> sizes) {
    return executorch::extension::make_tensor_ptr(std::move(sizes), std::move(data));
  }

  std::vector<float> run(const std::string& method, std::vector<TensorPtr> inputs) {
    std::vector<EValue> values(inputs.begin(), inputs.end());
    auto made = module_.execute(method, values);
    if (!made.ok()) throw std::runtime_error(method + " failed");
    const auto& out = made->at(0).toTensor();
    const float* data = out.const_data_ptr<float>();
    return std::vector<float>(data, data + out.numel());
  }

  std::vector<float> embedded(std::vector<int64_t> ids) {
    ids.resize(text_, 0);
    return run("embed", {tensor(ids, {1, text_})});
  }

  int32_t number(const std::string& method) {
    auto made = module_.execute(method);
    if (!made.ok()) throw std::runtime_error("the program has no " + method);
    return int32_t(made->at(0).toInt());
  }

  int32_t seen_width() { return number("get_vision_width"); }

  executorch::extension::Module module_;
  int32_t height_, across_, kept_, text_, capacity_, width_;
};

}  // namespace edgevlm
