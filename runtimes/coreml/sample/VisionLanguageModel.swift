// The parts of a bundle, run by Core ML: pixels and token ids in, token ids out. iOS 18, macOS 15.
//
// Checked against Apple's documentation (developer.apple.com/documentation/coreml: MLModel.compileModel,
// MLModelConfiguration.functionName, makeState(), prediction(from:using:), MLShapedArray; read 2026-11).
// It has not been compiled or run: that takes Xcode 16 or later.
//
//     let model = try await VisionLanguageModel(bundle: url)        // the folder with manifest.json
//     let ids = try await model.answer(pixels: pixels, before: head, after: tail, ends: [2])
//
// pixels: [1,3,H,W] in row-major order, as processor/preprocessor.json says; ids: of
// processor/tokenizer.json. Greedy: the same tokens as `edgevlm run`, but for rounding of float16.
// Float16 is not on Intel Macs. In an app, compile the package at build time: add it to the target.

import CoreML
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
    case noOutput(String)
    case promptTooLong(Int)
}

final class VisionLanguageModel {
    let contract: Contract
    private let functions: [String: MLModel]  // one package, a function each; weights are mapped once
    private let caches: MLState  // key_0, value_0, ...: prefill writes all of them

    init(bundle: URL, units: MLComputeUnits = .all) async throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let manifest = try Data(contentsOf: bundle.appending(path: "manifest.json"))
        contract = try decoder.decode(Manifest.self, from: manifest).contract
        let package = bundle.appending(path: "coreml/model.mlpackage")
        let compiled = try await MLModel.compileModel(at: package)
        var loaded: [String: MLModel] = [:]
        for name in ["vision", "connector", "embed", "prefill", "decode"] {
            let configuration = MLModelConfiguration()
            configuration.functionName = name
            configuration.computeUnits = units
            loaded[name] = try await MLModel.load(contentsOf: compiled, configuration: configuration)
        }
        functions = loaded
        caches = loaded["decode"]!.makeState()
    }

    /// Token ids of an answer. before, after: prompt ids in front of and behind the image.
    func answer(
        pixels: [Float16], before: [Int32], after: [Int32], ends: Set<Int32>
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
            let logits = try floats(out, "logits")
            let token = Int32(logits.indices.max { logits[$0] < logits[$1] }!)
            if ends.contains(token) { return answer }
            answer.append(token)
            if filled == contract.kvCapacity { return answer }
            position += 1
            let row = Array(try await embedded([token])[..<contract.width])
            out = try await run(
                "decode",
                [
                    "inputs_embeds": array(row, [1, 1, contract.width]),
                    "position_ids": array([Int32(position)], [1, 1]),
                    "cache_position": array([Int32(filled)], [1]),
                ])
            filled += 1
        }
    }

    /// What the connector kept of an image, and where in its grid that was.
    private func encode(_ pixels: [Float16]) async throws -> ([Float16], [Int32]) {
        let shape = [1, 3, contract.imageHeight, contract.imageWidth]
        let seen = try await run("vision", ["pixel_values": array(pixels, shape)])
        var inputs: [String: MLFeatureValue] = [:]
        for name in functions["connector"]!.modelDescription.inputDescriptionsByName.keys {
            inputs[name] = seen.featureValue(for: name)
        }
        var places = indices(seen) ?? (0..<contract.imageTokens).map(Int32.init)
        let out = try await run("connector", inputs)
        if let chosen = indices(out) { places = chosen.map { places[Int($0)] } }
        return (try floats(out, "image_embeds"), places)
    }

    /// before | image | after | padding; text keeps its positions of all image tokens.
    private func prompt(
        _ image: [Float16], _ places: [Int32], _ before: [Int32], _ after: [Int32]
    ) async throws -> [String: MLFeatureValue] {
        let text = try await embedded(before + after)
        let (width, head, kept) = (contract.width, before.count, contract.keptImageTokens)
        var rows = Array(text[..<(head * width)]) + image
        rows += text[(head * width)..<((head + after.count) * width)]
        rows += [Float16](repeating: 0, count: contract.rows * width - rows.count)
        let kinds = contract.imagePositions == "renumber" ? (0..<kept).map(Int32.init) : places
        let behind = head + contract.span
        let positions =
            (0..<head).map(Int32.init) + kinds.map { Int32(head) + $0 }
            + (behind..<(behind + contract.rows - head - kept)).map(Int32.init)
        var inputs = [
            "inputs_embeds": array(rows, [1, contract.rows, width]),
            "position_ids": array(positions, [1, contract.rows]),
            "last_index": array([Int32(head + kept + after.count - 1)], [1]),
        ]
        if !contract.sites.isEmpty { inputs["image_start"] = array([Int32(head)], [1]) }
        return inputs
    }

    private func embedded(_ ids: [Int32]) async throws -> [Float16] {
        let padded = ids + [Int32](repeating: 0, count: contract.promptCapacity - ids.count)
        let out = try await run("embed", ["input_ids": array(padded, [1, contract.promptCapacity])])
        return try floats(out, "text_embeds")
    }

    /// A function; prefill and decode read and write the caches in place.
    private func run(
        _ name: String, _ inputs: [String: MLFeatureValue]
    ) async throws -> any MLFeatureProvider {
        let features = try MLDictionaryFeatureProvider(dictionary: inputs)
        let function = functions[name]!
        guard name == "prefill" || name == "decode" else {
            return try await function.prediction(from: features)
        }
        return try await function.prediction(from: features, using: caches)
    }
}

private func array<T: MLShapedArrayScalar>(_ scalars: [T], _ shape: [Int]) -> MLFeatureValue {
    MLFeatureValue(shapedArray: MLShapedArray<T>(scalars: scalars, shape: shape))
}

/// A float output in row-major order, whatever strides it has.
private func floats(_ out: any MLFeatureProvider, _ name: String) throws -> [Float16] {
    guard let value = out.featureValue(for: name)?.shapedArrayValue(of: Float16.self) else {
        throw BundleError.noOutput(name)
    }
    return value.scalars
}

/// Which of the tokens that a part was given it kept; nil for one that keeps all.
private func indices(_ out: any MLFeatureProvider) -> [Int32]? {
    out.featureValue(for: "image_index")?.shapedArrayValue(of: Int32.self)?.scalars
}
