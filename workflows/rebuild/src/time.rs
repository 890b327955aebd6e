//! Moments in UTC, and the instants of a schedule. There is no summer time here, so that no instant is skipped or comes twice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Moment in UTC: whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Utc(pub i64);

/// Seconds of an hour.
pub const HOUR: i64 = 3_600;
/// Seconds of a day.
pub const DAY: i64 = 86_400;

impl Utc {
    /// Year, month and day.
    pub fn date(self) -> (i64, u32, u32) {
        civil(self.0.div_euclid(DAY))
    }

    /// Seconds since midnight.
    fn of_day(self) -> i64 {
        self.0.rem_euclid(DAY)
    }

    /// `2026-11-29 02:30`
    pub fn short(self) -> String {
        let ((year, month, day), secs) = (self.date(), self.of_day());
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", secs / HOUR, secs / 60 % 60)
    }

    /// `Sun, 29 Nov 2026 02:30:07 +0000`, as mail has dates.
    pub fn mail(self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let ((year, month, day), secs) = (self.date(), self.of_day());
        let weekday = &Weekday::of(self).name()[..3];
        let (first, rest) = weekday.split_at(1);
        let month = MONTHS[month as usize - 1];
        let (hour, minute, second) = (secs / HOUR, secs / 60 % 60, secs % 60);
        format!("{}{rest}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000", first.to_ascii_uppercase())
    }
}

/// `2026-11-29T02:30:07Z`
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), secs) = (self.date(), self.of_day());
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / HOUR, secs / 60 % 60, secs % 60)
    }
}

impl FromStr for Utc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| format!("`{text}` is not a moment in UTC such as `2026-11-29T02:30:00Z`"))
    }
}

fn read(text: &str) -> Option<Utc> {
    let (date, clock) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let mut clock = clock.split(':');
    let hour: i64 = clock.next()?.parse().ok()?;
    let minute: i64 = clock.next()?.parse().ok()?;
    let second: i64 = clock.next().map_or(Some(0), |second| second.parse().ok())?;
    let is_real = parts.next().is_none()
        && clock.next().is_none()
        && (1970..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day);
    let days = is_real.then(|| days_of(year, month, day))?;
    (civil(days) == (year, month, day)).then(|| Utc(days * DAY + hour * HOUR + minute * 60 + second))
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Day since 1970 of a date. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013, `days_from_civil`.
fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Date of a day since 1970; the same source, `civil_from_days`.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekday(u32);

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Weekday {
    /// Number from Monday, 0.
    pub fn number(self) -> u32 {
        self.0
    }

    fn of(moment: Utc) -> Self {
        Self((moment.0.div_euclid(DAY) + 3).rem_euclid(7) as u32) // 1970 began on a Thursday
    }

    fn name(self) -> &'static str {
        WEEKDAYS[self.0 as usize]
    }
}

/// Schedule: instants in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Every so many hours, counted from midnight of 1 January 1970.
    Hours(u32),
    /// Once a day, so many seconds after midnight.
    Day(u32),
    /// Once a week.
    Week(Weekday, u32),
    /// Once a month, on a day that every month has.
    Month(u32, u32),
}

/// Last day that every month has.
const LAST_DAY: u32 = 28;

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["hours", count] => match count.parse() {
                Ok(count @ 1..=168) => Ok(Self::Hours(count)),
                _ => Err(format!("`hours {count}` should be 1 to 168 hours")),
            },
            ["day", time] => Ok(Self::Day(time_of_day(time)?)),
            ["month", day, time] => match day.parse() {
                Ok(day @ 1..=LAST_DAY) => Ok(Self::Month(day, time_of_day(time)?)),
                _ => Err(format!("`month {day}` should be a day from 1 to {LAST_DAY}, which every month has")),
            },
            [weekday, time] => match WEEKDAYS.iter().position(|known| *known == weekday.to_lowercase()) {
                Some(at) => Ok(Self::Week(Weekday(at as u32), time_of_day(time)?)),
                None => Err(format!("`{weekday}` is no day of the week, nor `day`, `month` or `hours`")),
            },
            _ => Err(format!("`{text}` is no schedule")),
        }
    }
}

/// Forms that a schedule can have.
pub const SCHEDULES: &str =
    "write `every = \"sunday 02:30\"`, `\"day 03:00\"`, `\"month 1 05:00\"` or `\"hours 6\"`; times are in UTC";

fn time_of_day(text: &str) -> Result<u32, String> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let is_plain = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let (hour, minute) =
            (is_plain(hour).then_some(hour)?.parse::<u32>().ok()?, is_plain(minute).then_some(minute)?.parse::<u32>().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 3_600 + minute * 60)
    };
    read().ok_or_else(|| format!("`{text}` should be a time from 00:00 to 23:59"))
}

/// `sunday 02:30`
impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |secs: u32| format!("{:02}:{:02}", secs / 3_600, secs / 60 % 60);
        match self {
            Self::Hours(count) => write!(f, "hours {count}"),
            Self::Day(secs) => write!(f, "day {}", clock(*secs)),
            Self::Week(day, secs) => write!(f, "{} {}", day.name(), clock(*secs)),
            Self::Month(day, secs) => write!(f, "month {day} {}", clock(*secs)),
        }
    }
}

impl Every {
    /// The last instant that is not after a moment.
    pub fn last(self, now: Utc) -> Utc {
        match self {
            Self::Hours(count) => Utc(now.0.div_euclid(i64::from(count) * HOUR) * i64::from(count) * HOUR),
            Self::Day(secs) => Utc((now.0 - i64::from(secs)).div_euclid(DAY) * DAY + i64::from(secs)),
            Self::Week(day, secs) => {
                let offset = (i64::from(day.0) - 3) * DAY + i64::from(secs);
                Utc((now.0 - offset).div_euclid(7 * DAY) * 7 * DAY + offset)
            }
            Self::Month(day, secs) => {
                let (year, month, _) = now.date();
                let instant = |year, month| Utc(days_of(year, month, day) * DAY + i64::from(secs));
                let this = instant(year, month);
                if this <= now {
                    this
                } else if month == 1 {
                    instant(year - 1, 12)
                } else {
                    instant(year, month - 1)
                }
            }
        }
    }

    /// The first instant after a moment.
    pub fn next(self, now: Utc) -> Utc {
        match self {
            Self::Month(..) => {
                let last = self.last(now);
                self.last(Utc(last.0 + 32 * DAY)) // the day is at most 28: one month on, never two
            }
            _ => Utc(self.last(now).0 + self.period()),
        }
    }

    /// Seconds between two instants, at most.
    pub fn period(self) -> i64 {
        match self {
            Self::Hours(count) => i64::from(count) * HOUR,
            Self::Day(_) => DAY,
            Self::Week(..) => 7 * DAY,
            Self::Month(..) => 31 * DAY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Utc {
        text.parse().unwrap()
    }

    #[test]
    fn moments_read_back_as_written() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-29T02:30:07Z", "2000-02-29T23:59:59Z", "2100-03-01T00:00:00Z"] {
            assert_eq!(at(text).to_string(), text);
        }
        assert_eq!(at("2026-11-29 02:30Z"), at("2026-11-29T02:30:00Z"));
        for text in
            ["", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-29T24:00:00Z", "2026-11-29T02:30:00", "1-1-1T0:0:0Z"]
        {
            assert!(text.parse::<Utc>().is_err(), "{text}");
        }
        assert_eq!(at("2026-11-29T02:30:07Z").mail(), "Sun, 29 Nov 2026 02:30:07 +0000");
        assert_eq!(at("2026-11-29T02:30:07Z").short(), "2026-11-29 02:30");
    }

    #[track_caller]
    fn check(every: &str, now: &str, last: &str, next: &str) {
        let schedule: Every = every.parse().unwrap();
        assert_eq!(schedule.to_string(), every);
        assert_eq!((schedule.last(at(now)).to_string(), schedule.next(at(now)).to_string()), (last.to_owned(), next.to_owned()));
        assert_eq!(schedule.next(at(last)), at(next));
        assert_eq!(schedule.last(at(last)), at(last));
    }

    #[test]
    fn schedules_have_a_last_and_a_next_instant() {
        check("sunday 02:30", "2026-03-29T02:29:59Z", "2026-03-22T02:30:00Z", "2026-03-29T02:30:00Z");
        check("sunday 02:30", "2026-03-29T02:30:00Z", "2026-03-29T02:30:00Z", "2026-04-05T02:30:00Z");
        check("monday 00:00", "2026-11-30T09:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z");
        check("day 03:00", "2026-10-25T02:59:00Z", "2026-10-24T03:00:00Z", "2026-10-25T03:00:00Z");
        check("month 1 05:00", "2027-01-01T04:59:59Z", "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z");
        check("month 28 05:00", "2028-02-28T05:00:00Z", "2028-02-28T05:00:00Z", "2028-03-28T05:00:00Z");
        check("hours 6", "2026-11-29T11:59:59Z", "2026-11-29T06:00:00Z", "2026-11-29T12:00:00Z");
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for text in [
            "",
            "sunday",
            "sunday 24:00",
            "sunday 2:30",
            "someday 02:30",
            "month 31 05:00",
            "month 0 05:00",
            "hours 0",
            "day 03:60",
        ] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }
}
