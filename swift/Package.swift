// swift-tools-version:5.9
// The C library is Quant.xcframework for Apple's systems, which `cargo xtask dist` puts beside this
// file, and what pkg-config finds elsewhere.
import PackageDescription

#if os(Linux)
let library = Target.systemLibrary(name: "CQuant", pkgConfig: "quant")
let resources: [Resource] = []
#else
let library = Target.binaryTarget(name: "CQuant", path: "Quant.xcframework")
let resources: [Resource] = [.copy("PrivacyInfo.xcprivacy")]
#endif

let package = Package(
    name: "Quant",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "Quant", targets: ["Quant"])],
    targets: [
        library,
        .target(
            name: "Quant",
            dependencies: ["CQuant"],
            exclude: resources.isEmpty ? ["PrivacyInfo.xcprivacy"] : [],
            resources: resources),
        .testTarget(name: "QuantTests", dependencies: ["Quant"]),
    ]
)
