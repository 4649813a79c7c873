//! How work is cut into blocks, and what memory it needs: from shapes and `k_max` alone.

use super::layout::{
    BINS, CANDIDATES, COMMON_BYTES, Launch, MAX_RADIUS, PHASE_FIELDS, PHASE_REST, SMALL_PX, STRIP_ROWS,
};
use super::plan::PlanLayout;
use crate::error::{Error, Result};
use crate::plan::BatchShape;

/// Widest tile of a large image, pixels.
const TILE_WIDTH: usize = 256;
/// Pixels of a tile: four groups a thread.
const TILE_PX: usize = 4096;
/// Shared memory for smoothing, bytes.
const SMOOTHING_BYTES: usize = 34 << 10;
/// Memory for the fields of fmix layers that are made at the same time, bytes; one field at least.
const FIELD_BYTES: usize = 64 << 20;
/// Alignment of the parts of a workspace.
pub(super) const ALIGN: usize = 256;
/// Shared memory that every device gives a block without being asked.
const SHARED_BYTES: usize = 48 << 10;

/// The grid of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub small: bool,
    tile: [usize; 2],
    tiles: [usize; 2],
    pub n_slots: usize,
    slot_bytes: usize,
    shared_bytes: usize,
    /// Parts of the workspace, bytes from its start: sums, tiles done, bits, slots, and after them a plan.
    pub done_at: usize,
    given_at: usize,
    slots_at: usize,
    pub plan_at: usize,
}

impl Grid {
    /// `n_fmix`: fmix layers at most, of which a plan that is not known yet may have N·k_max.
    pub fn new(layout: &PlanLayout, n_fmix: usize) -> Result<Self> {
        let BatchShape { samples, height, width } = layout.shape;
        let pixels = height * width;
        // What smoothing takes of shared memory: sums of rows, 16 bytes for 32 pixels, and one layer's bits. An image of
        // which that is too much, a narrow one, is cut like a large one.
        let smoothing = |[tile_height, tile_width]: [usize; 2]| {
            let pitch = (tile_width - 1) / 32 + 2;
            pitch * (16 * layout.k_max * tile_height + 4 * (tile_height + 2 * MAX_RADIUS as usize))
        };
        let small = pixels <= SMALL_PX as usize && smoothing([height, width]) <= SMOOTHING_BYTES;
        let tile = if small {
            [height, width]
        } else {
            let columns = width.div_ceil(TILE_WIDTH);
            let tile_width = width.div_ceil(columns).next_multiple_of(4);
            let most = (TILE_PX / tile_width).clamp(1, height);
            let tile_height = (1..=most).rfind(|&rows| smoothing([rows, tile_width]) <= SMOOTHING_BYTES).unwrap_or(1);
            [tile_height, tile_width]
        };
        let tiles = [height.div_ceil(tile[0]), width.div_ceil(tile[1])];
        let slot_bytes = 8 * (layout.waves_x * (width / 2 + 1) + pixels);
        let n_slots = if small { 0 } else { n_fmix.min((FIELD_BYTES / slot_bytes).max(1)) };
        let words = pixels.div_ceil(32);

        let mixing = smoothing(tile);
        let spectrum = 16 * layout.waves_y * layout.waves_x + 8 * STRIP_ROWS as usize * layout.waves_x;
        let threshold = 8 * CANDIDATES as usize + 4 * BINS as usize;
        let shared = if small {
            let field = (4 * pixels).next_multiple_of(16) + spectrum.max(threshold + 4 * pixels);
            (4 * layout.k_max * words).next_multiple_of(16) + if n_fmix > 0 { field.max(mixing) } else { mixing }
        } else if n_slots > 0 {
            mixing.max(spectrum).max(threshold)
        } else {
            mixing
        };
        let shared_bytes = COMMON_BYTES as usize + shared;
        debug_assert!(shared_bytes <= SHARED_BYTES, "{layout:?}");

        let mut end = 0;
        let mut part = |bytes: usize| {
            let at = end;
            end = (end + bytes).next_multiple_of(ALIGN);
            at
        };
        let large = usize::from(!small);
        part(large * samples * 8);
        let done_at = part(large * samples * 4);
        let given_at = part(if n_slots > 0 { samples * layout.k_max * words * 4 } else { 0 });
        let slots_at = part(n_slots * slot_bytes);
        let grid =
            Grid { small, tile, tiles, n_slots, slot_bytes, shared_bytes, done_at, given_at, slots_at, plan_at: end };
        check_blocks(layout.shape, grid.blocks(layout, PHASE_FIELDS) as u64)?;
        Ok(grid)
    }

    /// Blocks of a phase.
    pub fn blocks(&self, layout: &PlanLayout, phase: u32) -> usize {
        let fields = if phase == PHASE_FIELDS { self.n_slots } else { 0 };
        layout.shape.samples * self.tiles[0] * self.tiles[1] + fields
    }

    pub fn shared_bytes(&self) -> u32 {
        self.shared_bytes as u32
    }

    /// The phases that are launched.
    pub fn phases(&self) -> &'static [u32] {
        if self.n_slots > 0 { &[PHASE_FIELDS, PHASE_REST] } else { &[PHASE_FIELDS] }
    }

    /// Fills in what follows from the grid; `workspace`: its address.
    pub fn describe(&self, layout: &PlanLayout, plan: u64, workspace: u64, launch: &mut Launch) {
        let BatchShape { samples, height, width } = layout.shape;
        let at = |offset: usize| workspace + offset as u64;
        *launch = Launch {
            plan,
            samples_at: layout.samples_at as u64,
            layers_at: layout.layers_at as u64,
            fmix_at: layout.fmix_at as u64,
            readers_at: layout.readers_at as u64,
            circle_y_at: layout.circle_y_at as u64,
            circle_x_at: layout.circle_x_at as u64,
            amplitudes_at: layout.amplitudes_at as u64,
            sums: at(0),
            done: at(self.done_at),
            given: at(self.given_at),
            slots: at(self.slots_at),
            slot_bytes: self.slot_bytes as u64,
            n_samples: samples as u32,
            height: height as u32,
            width: width as u32,
            k_max: layout.k_max as u32,
            waves_y: layout.waves_y as u32,
            waves_x: layout.waves_x as u32,
            tile_h: self.tile[0] as u32,
            tile_w: self.tile[1] as u32,
            tiles_x: self.tiles[1] as u32,
            tiles: (self.tiles[0] * self.tiles[1]) as u32,
            n_slots: self.n_slots as u32,
            ..*launch
        };
    }
}

/// Checks that a grid has no more blocks than there can be.
pub(super) fn check_blocks(shape: BatchShape, blocks: u64) -> Result<()> {
    if blocks <= i32::MAX as u64 {
        return Ok(());
    }
    let BatchShape { samples, height, width } = shape;
    Err(Error::Unsupported(format!("images: {samples} of {height}×{width} pixels are more than one CUDA launch takes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_shape_needs_more_shared_memory_than_every_device_has() {
        let small = (1..=4096).flat_map(|height| (1..=4096 / height).map(move |width| (height, width)));
        let large = [(1, 4097), (4097, 1), (65, 65), (63, 1000), (1000, 63), (224, 224), (225, 225), (32_768, 32_768)];
        for (height, width) in small.chain(large) {
            for k_max in [1, 8] {
                let layout = PlanLayout::new(BatchShape::new(3, height, width), k_max, 1);
                let grid = Grid::new(&layout, 3 * k_max).unwrap();
                assert!(grid.shared_bytes <= SHARED_BYTES, "{height}×{width}, k_max {k_max}: {grid:?}");
                assert!(!grid.small || height * width <= SMALL_PX as usize);
                // Smoothing takes more for a narrow image of many rows or layers, which may be cut all the same.
                assert!(height != width || grid.small == (height * width <= SMALL_PX as usize));
            }
        }
    }

    #[test]
    fn tiles_cover_an_image_once() {
        for (height, width) in [(65, 65), (224, 224), (225, 225), (1, 5000), (5000, 1), (300, 1030)] {
            let grid = Grid::new(&PlanLayout::new(BatchShape::new(1, height, width), 2, 1), 2).unwrap();
            let [tile_h, tile_w] = grid.tile;
            assert!(tile_w.is_multiple_of(4) && tile_h * tile_w <= TILE_PX.max(tile_w));
            assert!(grid.tiles[0] * tile_h >= height && (grid.tiles[0] - 1) * tile_h < height);
            assert!(grid.tiles[1] * tile_w >= width && (grid.tiles[1] - 1) * tile_w < width);
        }
    }
}
