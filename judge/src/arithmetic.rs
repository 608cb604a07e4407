//! Exponential and logarithm in plain arithmetic, good to 13 digits. The judge spends much of its time in them: the
//! compiler works out several at a time, and they have the same bits on every processor, which the system's library does
//! not promise.

/// Adding this rounds to a whole number, which is then in the lowest bits: 1.5 * 2^52.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, so that a multiple of it is exact to more than 53 bits.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Bits of the square root of 1/2: mantissas are taken between it and the square root of 2.
const ROOT_OF_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
/// Bits of 2^52, whose lowest bits are a whole number that is added to it.
const WHOLE: u64 = 0x4330_0000_0000_0000;
/// Keeps exponents of numbers below 1 from being negative.
const BIAS: u64 = 1024;

/// e to the power of `x`, from -700 to 700.
#[inline]
pub fn exp(x: f64) -> f64 {
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let twos = shifted - ROUNDER;
    // From -ln(2)/2 to ln(2)/2: the Taylor series up to x^11 / 11!, in pairs that do not wait for each other.
    let x1 = (x - twos * LN_2_HIGH) - twos * LN_2_LOW;
    let (x2, x4) = (x1 * x1, (x1 * x1) * (x1 * x1));
    let first = (1.0 + x1) + (1.0 / 2.0 + x1 * (1.0 / 6.0)) * x2;
    let second = (1.0 / 24.0 + x1 * (1.0 / 120.0)) + (1.0 / 720.0 + x1 * (1.0 / 5040.0)) * x2;
    let third =
        (1.0 / 40_320.0 + x1 * (1.0 / 362_880.0)) + (1.0 / 3_628_800.0 + x1 * (1.0 / 39_916_800.0)) * x2;
    let series = (first + second * x4) + third * (x4 * x4);
    series * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// Natural logarithm of `x`, any positive number that is not subnormal.
#[inline]
pub fn ln(x: f64) -> f64 {
    let above = x.to_bits().wrapping_sub(ROOT_OF_HALF).wrapping_add(BIAS << 52);
    let twos = f64::from_bits((above >> 52) | WHOLE) - f64::from_bits(WHOLE | BIAS);
    let mantissa = f64::from_bits(x.to_bits().wrapping_sub((above & (0xFFF << 52)).wrapping_sub(BIAS << 52)));
    // ln m = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1)/(m + 1), which is 0.17 at most.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let (s2, s4) = (s * s, (s * s) * (s * s));
    let first = (2.0 + s2 * (2.0 / 3.0)) + (2.0 / 5.0 + s2 * (2.0 / 7.0)) * s4;
    let second = (2.0 / 9.0 + s2 * (2.0 / 11.0)) + (2.0 / 13.0 + s2 * (2.0 / 15.0)) * s4;
    twos * LN_2_HIGH + (s * (first + second * (s4 * s4)) + twos * LN_2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_those_of_the_standard_library_but_for_the_last_digits() {
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
        for step in -70_000..70_000_i32 {
            let x = f64::from(step) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp({x}): {} and not {}", exp(x), x.exp());
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 1e-13 * y.ln().abs(), "ln({y}): {} and not {}", ln(y), y.ln());
            let near = 1.0 + f64::from(step) * 1e-9;
            assert!((ln(near) - near.ln()).abs() <= 1e-13 * near.ln().abs(), "ln({near})");
        }
    }
}
