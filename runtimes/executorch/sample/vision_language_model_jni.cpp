// vision_language_model.h for Kotlin: a library of three calls, which VisionLanguageModel.kt declares.
//
// Built by the NDK with ExecuTorch beside it (add_subdirectory; extension_module, extension_tensor,
// optimized_native_cpu_ops_lib, quantized_ops_lib, xnnpack_backend), as libvision_language_model.so:
// docs.pytorch.org/executorch/stable/using-executorch-cpp.html

#include <jni.h>

#include "vision_language_model.h"

namespace {

using edgevlm::VisionLanguageModel;

std::vector<int64_t> longs(JNIEnv* env, jlongArray array) {
  std::vector<jlong> numbers(env->GetArrayLength(array));
  env->GetLongArrayRegion(array, 0, jsize(numbers.size()), numbers.data());
  return {numbers.begin(), numbers.end()};
}

// What C++ throws, thrown in Kotlin.
template <typename Run>
auto guarded(JNIEnv* env, Run run) -> decltype(run()) {
  try {
    return run();
  } catch (const std::exception& error) {
    env->ThrowNew(env->FindClass("java/lang/IllegalStateException"), error.what());
    return {};
  }
}

}  // namespace

extern "C" {

JNIEXPORT jlong JNICALL Java_com_example_edgevlm_VisionLanguageModel_open(JNIEnv* env, jobject, jstring path) {
  const char* text = env->GetStringUTFChars(path, nullptr);
  const std::string program(text);
  env->ReleaseStringUTFChars(path, text);
  return guarded(env, [&] { return reinterpret_cast<jlong>(new VisionLanguageModel(program)); });
}

JNIEXPORT jlongArray JNICALL Java_com_example_edgevlm_VisionLanguageModel_ask(
    JNIEnv* env, jobject, jlong model, jfloatArray pixels, jlongArray before, jlongArray after, jlongArray ends) {
  return guarded(env, [&]() -> jlongArray {
    std::vector<float> values(env->GetArrayLength(pixels));
    env->GetFloatArrayRegion(pixels, 0, jsize(values.size()), values.data());
    const auto end = longs(env, ends);
    const auto ids = reinterpret_cast<VisionLanguageModel*>(model)->answer(
        std::move(values), longs(env, before), longs(env, after), {end.begin(), end.end()});
    const std::vector<jlong> found(ids.begin(), ids.end());
    jlongArray array = env->NewLongArray(jsize(found.size()));
    if (array) env->SetLongArrayRegion(array, 0, jsize(found.size()), found.data());
    return array;
  });
}

JNIEXPORT void JNICALL Java_com_example_edgevlm_VisionLanguageModel_shut(JNIEnv*, jobject, jlong model) {
  delete reinterpret_cast<VisionLanguageModel*>(model);
}

}  // extern "C"
