//! Exponential and logarithm in plain arithmetic. The judge spends most of its time in them: the compiler turns these
//! into several at a time, and they have the same bits on every processor, which the system's library does not promise.

/// Adding this rounds to a whole number, which is then in the lowest bits: 1.5 * 2^52.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, so that a multiple of it is exact to more than 53 bits.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1/k! from k = 13 down to 0: the Taylor series of the exponential, good to the last bit below ln(2)/2.
const SERIES_OF_EXP: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];
/// 2/(2k+1) from k = 9 down to 0: `ln m = s * sum 2/(2k+1) s^2k` with `s = (m - 1)/(m + 1)`.
const SERIES_OF_LN: [f64; 10] = [
    2.0 / 19.0,
    2.0 / 17.0,
    2.0 / 15.0,
    2.0 / 13.0,
    2.0 / 11.0,
    2.0 / 9.0,
    2.0 / 7.0,
    2.0 / 5.0,
    2.0 / 3.0,
    2.0,
];
/// Bits of the square root of 1/2: mantissas are taken between it and the square root of 2.
const ROOT_OF_HALF: u64 = 0x3FE6_A09E_667F_3BCD;
/// Bits of 2^52, whose lowest bits are a whole number that is added to it.
const WHOLE: u64 = 0x4330_0000_0000_0000;

/// e to the power of `x`, from -700 to 700.
#[inline]
pub fn exp(x: f64) -> f64 {
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let twos = shifted - ROUNDER;
    let rest = (x - twos * LN_2_HIGH) - twos * LN_2_LOW;
    let series = SERIES_OF_EXP[1..].iter().fold(SERIES_OF_EXP[0], |sum, factor| sum * rest + factor);
    series * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// Natural logarithm of `x`, from 1 to the largest number.
#[inline]
pub fn ln(x: f64) -> f64 {
    let above = x.to_bits().wrapping_sub(ROOT_OF_HALF);
    let twos = f64::from_bits((above >> 52) | WHOLE) - f64::from_bits(WHOLE);
    let mantissa = f64::from_bits(x.to_bits().wrapping_sub(above & (0xFFF << 52)));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = SERIES_OF_LN[1..].iter().fold(SERIES_OF_LN[0], |sum, factor| sum * (s * s) + factor);
    twos * LN_2_HIGH + (s * series + twos * LN_2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_those_of_the_standard_library_but_for_the_last_bits() {
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
        for step in -70_000..70_000_i32 {
            let x = f64::from(step) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp({x}): {} and not {}", exp(x), x.exp());
            let y = 1.0 + x.abs().exp();
            assert!((ln(y) - y.ln()).abs() <= 4e-16 * y.ln(), "ln({y}): {} and not {}", ln(y), y.ln());
            let near = 1.0 + f64::from(step.abs()) * 1e-9;
            assert!((ln(near) - near.ln()).abs() <= 1e-15 * near.ln(), "ln({near})");
        }
    }
}
