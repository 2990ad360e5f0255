//! CPU names and which CPUs run the programs of which others (spec image-store §4).

/// Returns the canonical names of an architecture and variant (spec image-store §4).
pub(crate) fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (
        architecture.to_ascii_lowercase(),
        variant.to_ascii_lowercase(),
    );
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Highest variant number whose predecessors are listed; real ones stay below ten.
const MAX_VARIANT: u32 = 99;

/// Lists the normalised CPUs whose programs run on this one, best first.
pub(crate) fn compatible_cpus(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let cpu = |architecture: &str, variant: &str| normal_architecture(architecture, variant);
    let number = variant
        .strip_prefix('v')
        .and_then(|digits| digits.parse::<u32>().ok())
        .filter(|number| *number <= MAX_VARIANT);
    let mut cpus = vec![cpu(architecture, variant)];
    match architecture {
        "amd64" => {
            cpus.extend(
                (1..number.unwrap_or(1))
                    .rev()
                    .map(|lower| cpu("amd64", &format!("v{lower}"))),
            );
            cpus.push(cpu("386", ""));
        }
        "arm" => cpus.extend(
            (5..number.unwrap_or(5))
                .rev()
                .map(|lower| cpu("arm", &format!("v{lower}"))),
        ),
        "arm64" => {
            let variant = if variant.is_empty() { "v8" } else { variant };
            cpus.extend(
                lower_arm64_variants(variant)
                    .iter()
                    .map(|lower| cpu("arm64", lower)),
            );
            let arm = if variant.starts_with("v8.") || variant.starts_with("v9.") {
                "v8"
            } else {
                variant
            };
            cpus.extend(compatible_cpus("arm", arm));
        }
        _ => {}
    }
    cpus
}

/// Lists the 64-bit Arm versions below `variant`: v9.x runs v9.0..x-1 and v8.0..x+5; v8.x runs
/// v8.0..x-1 (Arm Architecture Reference Manual: v9.0 grew out of v8.5).
fn lower_arm64_variants(variant: &str) -> Vec<String> {
    let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
    let minor: u32 = minor.parse().unwrap_or(0).min(MAX_VARIANT);
    let below = |major: u32, end: u32| {
        (0..end).rev().map(move |minor| {
            if minor == 0 {
                format!("v{major}")
            } else {
                format!("v{major}.{minor}")
            }
        })
    };
    match major {
        "v9" => below(9, minor).chain(below(8, minor + 6)).collect(),
        "v8" => below(8, minor).collect(),
        _ => Vec::new(),
    }
}
