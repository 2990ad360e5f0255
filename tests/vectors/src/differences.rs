//! The one table of vectors that are answered otherwise than the reference does, on purpose.

/// A group of vectors with one reason.
#[derive(Debug)]
pub struct Difference {
    /// The area.
    pub area: &'static str,
    /// Why the answer differs, for the reader of the compatibility page.
    pub reason: &'static str,
    /// The vectors' ids without the area's name.
    pub ids: &'static [u32],
}

/// All differences.
pub static DIFFERENCES: &[Difference] = &[
    Difference {
        area: "api-status",
        reason: "builds go without a BuildKit session, and the header Builder-Version says so",
        ids: &[1, 2, 61, 62, 119, 123, 170, 174, 726, 763, 765, 767, 771],
    },
    Difference {
        area: "api-status",
        reason: "API versions above 1.51 are not spoken",
        ids: &[132, 134, 152, 153, 154],
    },
    Difference {
        area: "api-status",
        reason: "two values of a filter that means one moment are refused; the recorded daemon takes one of them",
        ids: &[655],
    },
    Difference {
        area: "api-status",
        reason: "a request that names no image and no source is the client's mistake (400)",
        ids: &[697, 698],
    },
    Difference {
        area: "api-status",
        reason: "a new name that is empty is refused; the recorded daemon answers 200 and does nothing",
        ids: &[707],
    },
    Difference {
        area: "api-status",
        reason: "a URL that cannot be fetched is the client's mistake (400)",
        ids: &[722],
    },
    Difference {
        area: "api-status",
        reason: "there are no swarms and no plugins: what was wrong with the request besides is not looked at",
        ids: &[742, 746, 747],
    },
    Difference {
        area: "dockerfile-plan",
        reason: "several stages lead to equal operations: which stage's name such an operation is shown under is chance",
        ids: &[1504, 1702],
    },
    Difference {
        area: "dockerfile-plan",
        reason: "RUN --device: the message goes on to say that no frontend here has devices, so that nobody looks for a labs one",
        ids: &[2037],
    },
    Difference {
        area: "layer-apply",
        reason: "an entry lies below a name that a lower layer has as a symlink: a layer is unpacked by itself, so that it \
                 has a directory there, which replaces the link and never leads through it",
        ids: &[332, 333],
    },
    Difference {
        area: "layer-apply",
        reason: "a whiteout hides what lower layers have, never an entry of its own layer (OCI image-spec, whiteouts); the \
                 reference removes the entry where the whiteout follows it",
        ids: &[
            8, 17, 43, 45, 55, 66, 103, 108, 128, 171, 178, 190, 205, 212, 234, 253, 278, 314,
        ],
    },
    Difference {
        area: "layer-apply",
        reason: "a later entry of the same tar replaces or hides a directory or link target; the reference fails when it sets \
                 the time of what is gone, though the tar is sound",
        ids: &[9, 11, 12, 35, 63, 87, 157, 164, 200, 221, 242, 244, 280],
    },
    Difference {
        area: "layer-diff",
        reason: "a later entry of the same tar replaces or hides a directory or link target; the reference fails when it sets \
                 the time of what is gone, though the tar is sound",
        ids: &[
            12, 18, 21, 33, 40, 44, 45, 51, 53, 79, 85, 92, 102, 109, 121, 156, 166, 180, 237,
        ],
    },
    Difference {
        area: "references",
        reason: "a digest of another algorithm than SHA-256 is refused where it is written, not where it is \
                 looked for: only SHA-256 ever becomes a file name",
        ids: &[
            32, 43, 53, 64, 79, 94, 128, 130, 131, 159, 192, 211, 250, 268, 334, 375, 442, 540,
            550, 561, 836, 880, 962, 986, 1046, 1048, 1058, 1159, 1165, 1213, 1232, 1241, 1253,
            1267, 1272, 1294, 1300, 1306, 1341, 1464, 1475, 1493, 1519, 1526, 1546, 1616, 1631,
            1682, 1709, 1720,
        ],
    },
    Difference {
        area: "units",
        reason: "a size past 8 EiB is an error; the reference overflows to the least number",
        ids: &[1229, 1265, 1266, 1277, 1278, 1378, 1510, 1514, 1580],
    },
];

/// Returns why a vector is answered otherwise on purpose.
#[must_use]
pub fn reason(area: &str, id: &str) -> Option<&'static str> {
    let number: u32 = id.rsplit_once('-')?.1.parse().ok()?;
    let differences = DIFFERENCES
        .iter()
        .filter(|difference| difference.area == area);
    differences
        .into_iter()
        .find(|difference| difference.ids.contains(&number))
        .map(|found| found.reason)
}
