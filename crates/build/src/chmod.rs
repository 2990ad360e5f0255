//! The modes of `--chmod`: octal, or symbolic as chmod(1) takes them (spec llb §7.4).

/// Highest mode.
const MAX_MODE: u32 = 0o7777;

/// A change of mode bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// Replaces all bits.
    Octal(u32),
    /// Changes some, in order.
    Symbolic(Vec<Action>),
}

/// `+x` and the like: what one operator does to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    /// Which of user (4), group (2) and others (1).
    who: u32,
    operator: char,
    permissions: String,
}

impl ModeChange {
    /// Reads `--chmod`.
    ///
    /// # Errors
    /// BuildKit's text for what is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= MAX_MODE => Ok(Self::Octal(mode)),
                _ => Err(invalid(text)),
            };
        }
        let mut actions = Vec::new();
        for clause in text.split(',') {
            actions.extend(Action::parse(clause).ok_or_else(|| invalid(text))?);
        }
        Ok(Self::Symbolic(actions))
    }

    /// Returns the mode that a file of `mode` gets.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(actions) => {
                // `X` asks for the file as it was.
                let is_executable = is_dir || mode & 0o111 != 0;
                let apply = |mode, action: &Action| action.apply(mode, is_executable);
                actions.iter().fold(mode, apply)
            }
        }
    }

    /// Returns the mode where it does not depend on the file.
    pub fn fixed(&self) -> Option<u32> {
        match self {
            Self::Octal(mode) => Some(*mode),
            Self::Symbolic(_) => None,
        }
    }
}

impl Action {
    /// Reads a clause: whom, then operators, each with its permissions (`g=u-w`).
    fn parse(clause: &str) -> Option<Vec<Self>> {
        let is_operator = |character| matches!(character, '+' | '-' | '=');
        let (who, mut rest) = clause.split_at(clause.find(is_operator)?);
        let mut mask = 0;
        for character in who.chars() {
            mask |= match character {
                'u' => 4,
                'g' => 2,
                'o' => 1,
                'a' => 7,
                _ => return None,
            };
        }
        let mut actions = Vec::new();
        while let Some(operator) = rest.chars().next() {
            let behind = rest.get(1..)?;
            let (permissions, next) =
                behind.split_at(behind.find(is_operator).unwrap_or(behind.len()));
            let is_known = |character: char| "rwxXstugo".contains(character);
            if !permissions.chars().all(is_known) {
                return None;
            }
            actions.push(Self {
                who: if mask == 0 { 7 } else { mask },
                operator,
                permissions: permissions.to_owned(),
            });
            rest = next;
        }
        Some(actions)
    }

    fn apply(&self, mode: u32, is_executable: bool) -> u32 {
        let mut bits = 0;
        let mut special = 0;
        for permission in self.permissions.chars() {
            match permission {
                'r' => bits |= 4,
                'w' => bits |= 2,
                'x' => bits |= 1,
                'X' if is_executable || self.operator == '-' => bits |= 1,
                'u' => bits |= mode >> 6 & 7,
                'g' => bits |= mode >> 3 & 7,
                'o' => bits |= mode & 7,
                's' => special |= self.set_ids(),
                // Others alone have no sticky bit.
                't' if self.who != 1 => special |= 0o1000,
                _ => {}
            }
        }
        let is_copy = |permission| matches!(permission, 'u' | 'g' | 'o');
        let spread = |bits: u32| {
            [(4, 6), (2, 3), (1, 0)]
                .into_iter()
                .filter(|(who, _)| self.who & who != 0)
                .fold(0, |sum, (_, shift)| sum | bits << shift)
        };
        match self.operator {
            '+' => mode | spread(bits) | special,
            '-' => mode & !(spread(bits) | special),
            // Copied permissions leave the set-ID bits as they are.
            _ if self.permissions.chars().any(is_copy) => {
                mode & !spread(7) | spread(bits) | special
            }
            _ => mode & !(spread(7) | self.set_ids()) | spread(bits) | special,
        }
    }

    /// Returns the set-ID bits of those that are meant.
    const fn set_ids(&self) -> u32 {
        (self.who & 4) << 9 | (self.who & 2) << 9
    }
}

fn invalid(text: &str) -> String {
    format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    #[test]
    fn modes() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o600, false, 0o755),
            ("0", 0o600, false, 0),
            ("7777", 0, false, 0o7777),
            ("u+x,g=r", 0o666, false, 0o746),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a-w", 0o777, false, 0o555),
            ("+x", 0o644, false, 0o755),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("g=u", 0o741, false, 0o771),
            ("g=u-w", 0o741, false, 0o751),
            ("u+rw-x", 0o100, false, 0o600),
            ("a=r", 0o7755, true, 0o1444),
            ("u=x,o=", 0o6777, false, 0o2170),
            ("=", 0o7777, false, 0o1000),
            ("g=u", 0o2741, true, 0o2771),
            ("u-X", 0o700, false, 0o600),
            ("a-x,u+X", 0o755, false, 0o744),
            ("o+st", 0o644, false, 0o644),
            ("u+", 0o644, false, 0o644),
        ] {
            assert_eq!(
                ModeChange::parse(text).unwrap().apply(mode, is_dir),
                expected,
                "{text}"
            );
        }
        for bad in [
            "64a", "10000", "8", "", "u", "z+x", "u+q", "u+x,", "u+x-q", ",",
        ] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
