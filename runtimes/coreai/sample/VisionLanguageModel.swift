// The parts of a bundle, run by Core AI: pixels and token ids in, token ids out.
//
// Checked against Apple's documentation of the framework (developer.apple.com/documentation/coreai,
// read 2026-11) and the code of github.com/apple/coreai-models, which uses the same calls. It has
// been parsed, but not compiled and not run: that takes Xcode 27, and iOS or macOS 27. Views of states
// need swiftSettings: [.enableExperimentalFeature("Lifetimes")], as they do there.
//
//     let model = try await VisionLanguageModel(bundle: url)        // the folder with manifest.json
//     let ids = try await model.answer(pixels: pixels, before: head, after: tail, ends: [2])
//
// pixels: float32, [1,3,H,W], as processor/preprocessor.json says; ids: of processor/tokenizer.json.
// Greedy: the same tokens as `edgevlm run`, where the device computes what the host does.

import CoreAI
import Foundation

struct Contract: Decodable {
    let imageHeight, imageWidth, imageTokens, keptImageTokens: Int
    let promptCapacity, kvCapacity, width: Int
    let imagePositions: String
    let sites: [Site]

    struct Site: Decodable { let layer: Int }
    var rows: Int { keptImageTokens + promptCapacity }
    /// Positions that an image takes up.
    var span: Int { imagePositions == "renumber" ? keptImageTokens : imageTokens }
}

struct Manifest: Decodable { let contract: Contract }

enum BundleError: Error {
    case noFunction(String)
    case noOutput(String)
    case promptTooLong(Int)
}

final class VisionLanguageModel {
    let contract: Contract
    private let functions: [String: InferenceFunction]
    private var caches: [String: NDArray] = [:]  // key_0, value_0, ...: prefill writes all of them

    init(bundle: URL) async throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let manifest = try Data(contentsOf: bundle.appending(path: "manifest.json"))
        contract = try decoder.decode(Manifest.self, from: manifest).contract
        // specialised for this device the first time, and cached; see docs/phones.md for coreai-build
        let model = try await AIModel(contentsOf: bundle.appending(path: "coreai/model.aimodel"))
        var loaded: [String: InferenceFunction] = [:]
        for name in ["vision", "connector", "embed", "prefill", "decode"] {
            guard let function = try model.loadFunction(named: name) else {
                throw BundleError.noFunction(name)
            }
            loaded[name] = function
        }
        functions = loaded
        let told = loaded["decode"]!.descriptor
        for name in told.stateNames {
            guard case .ndArray(let descriptor) = told.stateDescriptor(of: name) else { continue }
            caches[name] = NDArray(descriptor: descriptor)
        }
    }

    /// Token ids of an answer. before, after: prompt ids in front of and behind the image.
    func answer(
        pixels: [Float], before: [Int32], after: [Int32], ends: Set<Int32>
    ) async throws -> [Int32] {
        guard before.count + after.count <= contract.promptCapacity else {
            throw BundleError.promptTooLong(contract.promptCapacity)
        }
        let (image, places) = try await encode(pixels)
        let kept = contract.keptImageTokens
        var filled = before.count + kept + after.count
        var out = try await run("prefill", try await prompt(image, places, before, after))
        var position = before.count + contract.span + after.count - 1
        var answer: [Int32] = []
        while true {
            let logits = try floats(&out, "logits")
            let token = Int32(logits.indices.max { logits[$0] < logits[$1] }!)
            if ends.contains(token) { return answer }
            answer.append(token)
            if filled == contract.kvCapacity { return answer }
            position += 1
            let row = Array(try await embedded([token])[..<contract.width])
            out = try await run(
                "decode",
                [
                    "inputs_embeds": NDArray(scalars: row, shape: [1, 1, contract.width]),
                    "position_ids": NDArray(scalars: [Int32(position)], shape: [1, 1]),
                    "cache_position": NDArray(scalars: [Int32(filled)], shape: [1]),
                ])
            filled += 1
        }
    }

    /// What the connector kept of an image, and where in its grid that was.
    private func encode(_ pixels: [Float]) async throws -> ([Float], [Int32]) {
        let shape = [1, 3, contract.imageHeight, contract.imageWidth]
        var seen = try await run("vision", ["pixel_values": NDArray(scalars: pixels, shape: shape)])
        var inputs: [String: NDArray] = [:]
        for name in functions["connector"]!.descriptor.inputNames {
            guard let value = seen.remove(name)?.ndArray else { throw BundleError.noOutput(name) }
            inputs[name] = value
        }
        var places = try indices(&seen, in: "vision") ?? (0..<contract.imageTokens).map(Int32.init)
        var out = try await run("connector", inputs)
        if let chosen = try indices(&out, in: "connector") {
            places = chosen.map { places[Int($0)] }
        }
        return (try floats(&out, "image_embeds"), places)
    }

    /// before | image | after | padding; text keeps its positions of all image tokens.
    private func prompt(
        _ image: [Float], _ places: [Int32], _ before: [Int32], _ after: [Int32]
    ) async throws -> [String: NDArray] {
        let text = try await embedded(before + after)
        let (width, head, kept) = (contract.width, before.count, contract.keptImageTokens)
        var rows = Array(text[..<(head * width)]) + image
        rows += text[(head * width)..<((head + after.count) * width)]
        rows += [Float](repeating: 0, count: contract.rows * width - rows.count)
        let kinds = contract.imagePositions == "renumber" ? (0..<kept).map(Int32.init) : places
        let behind = head + contract.span
        let positions =
            (0..<head).map(Int32.init) + kinds.map { Int32(head) + $0 }
            + (behind..<(behind + contract.rows - head - kept)).map(Int32.init)
        var inputs = [
            "inputs_embeds": NDArray(scalars: rows, shape: [1, contract.rows, width]),
            "position_ids": NDArray(scalars: positions, shape: [1, contract.rows]),
            "last_index": NDArray(scalars: [Int32(head + kept + after.count - 1)], shape: [1]),
        ]
        if !contract.sites.isEmpty {
            inputs["image_start"] = NDArray(scalars: [Int32(head)], shape: [1])
        }
        return inputs
    }

    private func embedded(_ ids: [Int32]) async throws -> [Float] {
        let padded = ids + [Int32](repeating: 0, count: contract.promptCapacity - ids.count)
        let input = NDArray(scalars: padded, shape: [1, contract.promptCapacity])
        var out = try await run("embed", ["input_ids": input])
        return try floats(&out, "text_embeds")
    }

    /// A function; prefill and decode read and write the caches in place.
    private func run(
        _ name: String, _ inputs: [String: NDArray]
    ) async throws -> InferenceFunction.Outputs {
        let function = functions[name]!
        guard !function.descriptor.stateNames.isEmpty else {
            return try await function.run(inputs: inputs)
        }
        var states = InferenceFunction.MutableViews()
        for state in function.descriptor.stateNames {
            // an array's storage is a reference; as in StateHandler+NDArray.swift of coreai-models
            let view = _overrideLifetime(caches[state]!.mutableRawView(), borrowing: Void())
            states.insert(view, for: state)
        }
        return try await function.run(inputs: inputs, states: consume states)
    }
}

/// A float output in row-major order; outputs may have strides of their own.
private func floats(_ out: inout InferenceFunction.Outputs, _ name: String) throws -> [Float] {
    guard let array = out.remove(name)?.ndArray else { throw BundleError.noOutput(name) }
    return elements(array, as: Float.self)
}

/// Which of the tokens that a part was given it kept; nil for one that keeps all.
private func indices(
    _ out: inout InferenceFunction.Outputs, in part: String
) throws -> [Int32]? {
    guard let array = out.remove("image_index")?.ndArray else { return nil }
    return elements(array, as: Int32.self)
}

private func elements<T: BitwiseCopyable>(_ array: NDArray, as type: T.Type) -> [T] {
    array.view(as: type).withUnsafePointer { start, shape, strides in
        var count = 1
        for axis in 0..<shape.count { count *= shape[axis] }
        return (0..<count).map { place in
            var (rest, offset) = (place, 0)
            for axis in (0..<shape.count).reversed() {
                offset += rest % shape[axis] * strides[axis]
                rest /= shape[axis]
            }
            return start[offset]
        }
    }
}
