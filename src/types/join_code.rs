//! The join code: what an operator carries from a member of the group to a machine that is to join it.
//!
//! ```text
//! join code = "synod-join-" and base64url, without padding, of
//!             CBOR [ cluster id, secret: bytes .size 16, expires: time, [ * address: text ] ] │ check: 4 bytes
//!   check   = the first bytes of the digest of the CBOR under the domain `join code`
//! ```
//!
//! The secret stands nowhere else: the order has its digest under the domain `invite`.

use minicbor::{Decode, Encode};

use super::ids::{ClusterId, Digest};
use super::time::WallTime;

/// How the text begins.
pub const PREFIX: &str = "synod-join-";
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;

/// One join code.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct JoinCode {
    /// The group.
    #[n(0)]
    pub cluster: ClusterId,
    /// Whoever knows it may join, once.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub secret: [u8; SECRET_BYTES],
    /// When the group's door no longer takes it.
    #[n(2)]
    pub expires: WallTime,
    /// Where members' meshes listen; behind `/p2p/` whose key answers there, and nobody else is told the secret.
    #[n(3)]
    pub addresses: Vec<String>,
}

/// Text that is not a join code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAJoinCode {
    /// It begins otherwise.
    #[error("a join code begins with `{PREFIX}`; `synod invite` on any member prints one")]
    Prefix,
    /// Something is missing or was changed on the way.
    #[error("the join code is damaged: copy the whole line that `synod invite` printed")]
    Damaged,
}

/// What the order knows of a secret.
pub fn secret_digest(secret: &[u8; SECRET_BYTES]) -> Digest {
    Digest::of("invite", secret)
}

impl JoinCode {
    /// Its bytes, check included; the text is made of them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = minicbor::to_vec(self).expect("memory is writable");
        let check = Digest::of("join code", &bytes);
        bytes.extend_from_slice(&check.0[..CHECK_BYTES]);
        bytes
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<JoinCode, NotAJoinCode> {
        let end = bytes.len().checked_sub(CHECK_BYTES).ok_or(NotAJoinCode::Damaged)?;
        let (content, check) = bytes.split_at(end);
        if Digest::of("join code", content).0[..CHECK_BYTES] != *check {
            return Err(NotAJoinCode::Damaged);
        }
        minicbor::decode(content).map_err(|_| NotAJoinCode::Damaged)
    }

    /// Its text.
    #[cfg(feature = "node")]
    pub fn text(&self) -> String {
        use base64::Engine;
        format!("{PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.encode()))
    }

    /// Reads the text.
    #[cfg(feature = "node")]
    pub fn parse(text: &str) -> Result<JoinCode, NotAJoinCode> {
        use base64::Engine;
        let coded = text.trim().strip_prefix(PREFIX).ok_or(NotAJoinCode::Prefix)?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(coded);
        JoinCode::decode(&bytes.map_err(|_| NotAJoinCode::Damaged)?)
    }
}

#[cfg(all(test, feature = "node"))]
mod tests {
    use super::*;

    #[test]
    fn a_code_with_all_its_addresses_is_one_line() {
        let address = format!("/ip4/192.168.100.100/tcp/65535/p2p/{}", "x".repeat(52));
        let addresses = vec![address; crate::types::limits::JOIN_CODE_ADDRESSES];
        let (cluster, secret, expires) = (Digest([7; 32]), [9; SECRET_BYTES], WallTime(u64::MAX));
        let text = JoinCode { cluster, secret, expires, addresses }.text();
        assert!(text.len() < 600 && !text.contains(char::is_whitespace), "{} bytes", text.len());
        assert!((text.len() as u64) < crate::types::limits::JOIN_CODE_BYTES_MAX);
    }

    #[test]
    fn a_join_code_reads_back_and_tells_damage() {
        let code = JoinCode {
            cluster: Digest([7; 32]),
            secret: [9; SECRET_BYTES],
            expires: WallTime(1_800_000_000_000_000_000),
            addresses: vec!["/ip4/10.0.0.5/tcp/7271".to_owned()],
        };
        let text = code.text();
        assert!(text.len() < 160, "short: {text}");
        assert_eq!(JoinCode::parse(&format!(" {text}\n")), Ok(code));
        assert_eq!(JoinCode::parse("hello"), Err(NotAJoinCode::Prefix));
        assert_eq!(JoinCode::parse(&text[..text.len() - 3]), Err(NotAJoinCode::Damaged));
        assert_eq!(JoinCode::parse(&text.replace(&text[30..32], "zz")), Err(NotAJoinCode::Damaged));
        assert_eq!(JoinCode::parse(PREFIX), Err(NotAJoinCode::Damaged));
    }
}
