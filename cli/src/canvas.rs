//! Sheets of captioned tiles on a neutral ground.

use crate::work::filled;
use anyhow::Result;
use image::{Rgb, RgbImage, imageops};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Space around a sheet, pixels.
pub const MARGIN_PX: u32 = 28;
/// Space between tiles, pixels.
pub const GAP_PX: u32 = 14;
/// Narrowest tile under which a caption of two lines can be read, pixels.
pub const MIN_TILE_PX: u32 = 168;
/// Distance of two caption lines, pixels.
const LINE_PX: u32 = 18;
/// From a tile's lower edge to its caption, pixels.
const CAPTION_PX: u32 = 5;
/// What lies between images, so that neither black nor white masks get lost in it.
const GROUND: Rgb<u8> = Rgb([236, 236, 234]);
const BORDER: Rgb<u8> = Rgb([170, 170, 168]);

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// The sheet's first line.
    Title,
    /// Names of rows and columns.
    Heading,
    /// Captions.
    Caption,
    /// What is said beside.
    Muted,
}

impl Style {
    fn face(self) -> (FontWeight, RasterHeight, Rgb<u8>) {
        match self {
            Style::Title => (FontWeight::Bold, RasterHeight::Size24, Rgb([20, 20, 20])),
            Style::Heading => (FontWeight::Bold, RasterHeight::Size16, Rgb([20, 20, 20])),
            Style::Caption => (FontWeight::Regular, RasterHeight::Size16, Rgb([30, 30, 30])),
            Style::Muted => (FontWeight::Regular, RasterHeight::Size16, Rgb([95, 95, 95])),
        }
    }
}

/// A sheet that is being drawn.
pub struct Canvas(RgbImage);

impl Canvas {
    /// An empty sheet.
    ///
    /// # Errors
    /// Where there is not as much memory.
    pub fn new(width: u32, height: u32) -> Result<Self> {
        let pixels = filled(&[height as usize, width as usize], GROUND.0, "the sheet of images")?;
        Ok(Canvas(RgbImage::from_raw(width, height, pixels.into_flattened()).expect("as many pixels as it has")))
    }

    /// The sheet.
    pub fn into_image(self) -> RgbImage {
        self.0
    }

    /// Draws one line of text with its upper left corner at (x, y), cut to `width` pixels.
    pub fn text(&mut self, x: u32, y: u32, width: u32, text: &str, style: Style) {
        let (weight, height, colour) = style.face();
        let advance = get_raster_width(weight, height) as u32;
        for (i, c) in fit(text, (width / advance) as usize).chars().enumerate() {
            let glyph = get_raster(c, weight, height)
                .or_else(|| get_raster('?', weight, height))
                .expect("the font has the basic Latin letters");
            for (row, line) in glyph.rows().enumerate() {
                for (column, &coverage) in line.iter().enumerate() {
                    let (px, py) = (x + i as u32 * advance + column as u32, y + row as u32);
                    if let Some(pixel) = self.0.get_pixel_mut_checked(px, py) {
                        let blend = |under: u8, over: u8| {
                            let (coverage, under, over) = (u32::from(coverage), u32::from(under), u32::from(over));
                            ((under * (255 - coverage) + over * coverage + 127) / 255) as u8
                        };
                        pixel.0 = std::array::from_fn(|c| blend(pixel.0[c], colour.0[c]));
                    }
                }
            }
        }
    }

    /// Draws an image, each of its pixels `scale` pixels wide, with a thin border and caption lines below.
    pub fn tile(&mut self, x: u32, y: u32, image: &RgbImage, scale: u32, caption: &[String]) {
        let (width, height) = (image.width() * scale, image.height() * scale);
        let frame = RgbImage::from_pixel(width + 2, height + 2, BORDER);
        imageops::replace(&mut self.0, &frame, i64::from(x) - 1, i64::from(y) - 1);
        let image = imageops::resize(image, width, height, imageops::FilterType::Nearest);
        imageops::replace(&mut self.0, &image, x.into(), y.into());
        for (i, line) in caption.iter().enumerate() {
            let style = if i == 0 { Style::Caption } else { Style::Muted };
            self.text(x, y + height + CAPTION_PX + i as u32 * LINE_PX, width, line, style);
        }
    }
}

/// Height of a caption of so many lines, with the space around it, pixels.
pub fn caption_px(lines: u32) -> u32 {
    CAPTION_PX + lines * LINE_PX + GAP_PX
}

/// How many times an image of `size` pixels is enlarged so that its caption can be read.
pub fn scale_of(size: u32) -> u32 {
    MIN_TILE_PX.div_ceil(size.max(1))
}

/// A mask as a grey image: white keeps the primary pixel.
pub fn grey(mask: ndarray::ArrayView2<'_, f32>) -> RgbImage {
    let (height, width) = mask.dim();
    RgbImage::from_fn(width as u32, height as u32, |x, y| Rgb([to_u8(mask[[y as usize, x as usize]]); 3]))
}

/// A mask value as a byte, to the nearest.
pub fn to_u8(mask: f32) -> u8 {
    (mask * 255.0).round() as u8
}

/// The text, cut to so many letters.
fn fit(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters.saturating_sub(2)).chain("..".chars().take(letters)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_width() {
        assert_eq!(fit("gridmix", 7), "gridmix");
        assert_eq!(fit("gridmix", 6), "grid..");
        assert_eq!(fit("gridmix", 0), "");
    }

    #[test]
    fn letters_darken_only_their_place() {
        let mut canvas = Canvas::new(40, 30).unwrap();
        canvas.text(10, 5, 30, "I", Style::Caption);
        let image = canvas.into_image();
        let inside = |x: u32, y: u32| (10..17).contains(&x) && (5..21).contains(&y);
        assert!(image.enumerate_pixels().any(|(x, y, pixel)| inside(x, y) && pixel.0[0] < 80));
        assert!(image.enumerate_pixels().all(|(x, y, pixel)| inside(x, y) || *pixel == GROUND));
    }

    #[test]
    fn tiles_lie_where_they_are_put() {
        let mut canvas = Canvas::new(20, 20).unwrap();
        canvas.tile(3, 4, &RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, y as u8, 9])), 2, &[]);
        let image = canvas.into_image();
        assert_eq!(*image.get_pixel(3, 4), Rgb([0, 0, 9]));
        assert_eq!(*image.get_pixel(6, 5), Rgb([1, 0, 9]));
        assert_eq!(*image.get_pixel(4, 7), Rgb([0, 1, 9]));
        assert_eq!(*image.get_pixel(2, 3), BORDER);
        assert_eq!(*image.get_pixel(7, 8), BORDER);
        assert_eq!(*image.get_pixel(8, 9), GROUND);
    }
}
