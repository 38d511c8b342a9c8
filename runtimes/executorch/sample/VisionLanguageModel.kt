// The parts of a bundle, run by ExecuTorch on Android: pixels and token ids in, token ids out.
//
// build.gradle.kts:  implementation("org.pytorch:executorch-android:1.5.1")
// Put executorch/model.pte and manifest.json of the bundle where the app can read them (filesDir).
//
//     val model = VisionLanguageModel(File(filesDir, "cat.edgevlm"))
//     val ids = model.answer(pixels, before, after, setOf(2L))
//
// pixels: [1,3,H,W], as processor/preprocessor.json says; ids: of processor/tokenizer.json. Greedy: the
// same tokens as `edgevlm run`, which runs the same file with the same kernels. The calls are those of
// docs.pytorch.org/executorch/stable/using-executorch-android.html; it was not compiled here, which
// takes the Android SDK. Call it off the main thread; a Module is for one thread at a time.

package com.example.edgevlm

import java.io.File
import org.json.JSONObject
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

class VisionLanguageModel(bundle: File) {
    private val contract = JSONObject(File(bundle, "manifest.json").readText()).getJSONObject("contract")
    private val module = Module.load(File(bundle, "executorch/model.pte").path)

    private val width = contract.getInt("width")
    private val kept = contract.getInt("kept_image_tokens")
    private val all = contract.getInt("image_tokens")
    private val promptCapacity = contract.getInt("prompt_capacity")
    private val capacity = contract.getInt("kv_capacity")
    private val rows = kept + promptCapacity
    private val renumber = contract.getString("image_positions") == "renumber"
    private val span = if (renumber) kept else all // positions that an image takes up
    private val sites = contract.getJSONArray("sites").length()

    /** Token ids of an answer. before, after: prompt ids in front of and behind the image. */
    fun answer(pixels: FloatArray, before: LongArray, after: LongArray, ends: Set<Long>): List<Long> {
        require(before.size + after.size <= promptCapacity) { "at most $promptCapacity text tokens" }
        val (image, places) = encode(pixels)
        var filled = before.size + kept + after.size
        var position = before.size + span + after.size - 1
        var logits = floats(module.execute("prefill", *prompt(image, places, before, after))[0])
        val answer = mutableListOf<Long>()
        while (true) {
            val token = logits.indices.maxBy { logits[it] }.toLong()
            if (token in ends) return answer
            answer += token
            if (filled == capacity) return answer
            position += 1
            val row = embedded(longArrayOf(token)).copyOf(width)
            logits = floats(
                module.execute(
                    "decode",
                    value(row, 1, 1, width),
                    value(longArrayOf(position.toLong()), 1, 1),
                    value(longArrayOf(filled.toLong()), 1), // cache_position: the row of this token
                )[0]
            )
            filled += 1
        }
    }

    /** What the connector kept of an image, and where in its grid that was. */
    private fun encode(pixels: FloatArray): Pair<FloatArray, LongArray> {
        val (height, across) = contract.getInt("image_height") to contract.getInt("image_width")
        val seen = module.execute("vision", value(pixels, 1, 3, height, across))
        var places = if (seen.size > 1) longs(seen[1]) else LongArray(all) { it.toLong() }
        val out = module.execute("connector", seen[0])
        if (out.size > 1) places = longs(out[1]).map { places[it.toInt()] }.toLongArray()
        return floats(out[0]) to places
    }

    /** before | image | after | padding; text keeps its positions of all image tokens. */
    private fun prompt(
        image: FloatArray, places: LongArray, before: LongArray, after: LongArray,
    ): Array<EValue> {
        val text = embedded(before + after)
        val head = before.size
        val embeds = FloatArray(rows * width)
        text.copyInto(embeds, 0, 0, head * width)
        image.copyInto(embeds, head * width)
        text.copyInto(embeds, (head + kept) * width, head * width, (head + after.size) * width)
        val kinds = if (renumber) LongArray(kept) { it.toLong() } else places
        val positions = LongArray(rows) { row ->
            when {
                row < head -> row.toLong()
                row < head + kept -> head + kinds[row - head]
                else -> (head + span + row - head - kept).toLong()
            }
        }
        val inputs = mutableListOf(
            value(embeds, 1, rows, width),
            value(positions, 1, rows),
            value(longArrayOf((head + kept + after.size - 1).toLong()), 1), // last_index
        )
        if (sites > 0) inputs += value(longArrayOf(head.toLong()), 1) // image_start
        return inputs.toTypedArray()
    }

    private fun embedded(ids: LongArray): FloatArray =
        floats(module.execute("embed", value(ids.copyOf(promptCapacity), 1, promptCapacity))[0])
}

private fun shape(sizes: IntArray) = LongArray(sizes.size) { sizes[it].toLong() }

private fun value(data: FloatArray, vararg sizes: Int) = EValue.from(Tensor.fromBlob(data, shape(sizes)))

private fun value(data: LongArray, vararg sizes: Int) = EValue.from(Tensor.fromBlob(data, shape(sizes)))

private fun floats(value: EValue): FloatArray = value.toTensor().dataAsFloatArray

private fun longs(value: EValue): LongArray = value.toTensor().dataAsLongArray
