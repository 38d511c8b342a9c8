// The parts of a bundle, run by ExecuTorch on Android: pixels and token ids in, token ids out.
//
// Put executorch/model.pte of the bundle where the app can read it (filesDir), and build
// vision_language_model_jni.cpp with the app (externalNativeBuild).
//
//     VisionLanguageModel(File(filesDir, "model.pte")).use { model ->
//         val ids = model.answer(pixels, before, after, longArrayOf(2))
//     }
//
// pixels: [1,3,H,W], as processor/preprocessor.json says; ids: of processor/tokenizer.json. Greedy. By
// way of C++, since org.pytorch.executorch.Module gives each method memory of its own (1.5.1), and
// caches that prefill wrote would not be those that decode reads. The C++ is linked and asked by a test
// of edgevlm, and its JNI was called from a JVM; this file was not compiled, which takes Kotlin and the
// Android SDK. Call it off the main thread; a model is for one thread at a time.

package com.example.edgevlm

import java.io.File

class VisionLanguageModel(program: File) : AutoCloseable {
    private var model = open(program.path)

    /** Token ids of an answer. before, after: prompt ids in front of and behind the image. */
    fun answer(pixels: FloatArray, before: LongArray, after: LongArray, ends: LongArray): LongArray {
        check(model != 0L) { "it is closed" }
        return ask(model, pixels, before, after, ends)
    }

    override fun close() {
        shut(model)
        model = 0L
    }

    private external fun open(program: String): Long

    private external fun ask(
        model: Long, pixels: FloatArray, before: LongArray, after: LongArray, ends: LongArray,
    ): LongArray

    private external fun shut(model: Long)

    private companion object {
        init {
            System.loadLibrary("vision_language_model")
        }
    }
}
