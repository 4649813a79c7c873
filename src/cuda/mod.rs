//! The CUDA engine: device memory and a stream of the caller's, the same bits as on the CPU.
//!
//! Nothing waits for the device. A plan is written to pinned memory and uploaded in one asynchronous copy, so it
//! may be freed as soon as a call returns; what it is mixed into is complete in the stream's order.
//!
//! A stream that is being captured into a graph takes only a plan that was uploaded before ([`DevicePlan`]): its
//! size follows from shapes and the configuration alone, and so does all that is captured, so a replay takes
//! whatever plan was uploaded to the same buffer since.

mod driver;
mod launch;
mod layout;
mod plan;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::float_mode::DefaultFloatMode;
use crate::op::{MiaMix, check_gradients, check_images, check_maps};
use crate::plan::{BatchShape, Plan};
use crate::tensor::{Dtype, Images, ImagesMut, Maps, MapsMut, Raw, check_apart, span_of};
use driver::{Kernel, Stream};
use launch::{Grid, check_blocks};
use layout::{
    ACCESS_INTERLEAVED, ACCESS_PLANAR, ACCESS_STRIDED, BLOCK, GROUP, LABELS_F32, LABELS_I32, LABELS_I64, LABELS_NONE,
    Launch, SINK_BF16, SINK_F16, SINK_F32, SINK_MAP8, SINK_MAP16, SINK_MAP32, SINK_MAP64, SINK_MASKS, SINK_U8, Tensor,
};
use plan::{PlanLayout, Tables};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicI32, Ordering};

/// A CUDA stream of the caller's (`CUstream` or `cudaStream_t`); null is the default stream of the current context, of
/// which a new thread has none: see [`CurrentCudaDevice`].
#[derive(Clone, Copy, Debug)]
pub struct CudaStream(pub *mut c_void);

/// A device that is current on this thread as long as this lives, so that a null stream is its default stream.
#[derive(Debug)]
pub struct CurrentCudaDevice {
    _context: Option<driver::CurrentContext>,
}

impl CurrentCudaDevice {
    /// Makes the device's primary context, that of the CUDA runtime, current where `stream` is null and nothing is
    /// current on this thread; does nothing otherwise.
    ///
    /// # Errors
    /// [`Error::CudaUnavailable`], [`Error::Cuda`].
    pub fn for_stream(stream: CudaStream, device: i32) -> Result<Self> {
        Ok(CurrentCudaDevice { _context: if stream.0.is_null() { driver::enter_device(device)? } else { None } })
    }
}

/// Labels in device memory.
#[derive(Clone, Copy, Debug)]
pub enum DeviceLabels {
    /// Pixels only.
    None,
    /// Class ids `[N]`, `stride` elements apart; a negative one is an ignored label.
    Ids {
        /// Address of the first.
        data: *const i64,
        /// From one to the next, in elements.
        stride: isize,
        /// K.
        n_classes: usize,
    },
    /// The same in 32 bits.
    Ids32 {
        /// Address of the first.
        data: *const i32,
        /// From one to the next, in elements.
        stride: isize,
        /// K.
        n_classes: usize,
    },
    /// Rows `[N, K]` of numbers.
    Soft {
        /// Address of the first.
        data: *const f32,
        /// From row to row and from class to class, in elements.
        strides: [isize; 2],
        /// K.
        n_classes: usize,
    },
}

/// What goes in, in device memory: `Images` and `ImagesMut` by [`Images::from_raw`] with device addresses.
#[derive(Clone, Copy, Debug)]
pub struct DeviceBatch<'a> {
    /// Where primaries are read.
    pub images: Images<'a>,
    /// Where partners are read.
    pub partner_images: Images<'a>,
    /// The labels.
    pub labels: DeviceLabels,
}

/// Where results go, in device memory; a null address is a result that is not wanted.
#[derive(Debug)]
pub struct DeviceOutput<'a> {
    /// `[N, C, H, W]`, of the images' type.
    pub images: ImagesMut<'a>,
    /// `[N, K]`; null without labels.
    pub labels: *mut f32,
    /// Of `labels`, in elements: from row to row and from class to class.
    pub label_strides: [isize; 2],
    /// `[N]`, compact.
    pub label_weight: *mut f32,
    /// `[N]`, compact.
    pub partner_index: *mut i64,
    /// One number that the kernels raise to 1 + the index of a sample whose class id is K or more (its label is a
    /// row of zeros); who looks at it clears it. Null: [`check_cuda_labels`] looks.
    pub bad_label: *mut u32,
}

/// Room for a plan in device memory: for one batch shape, and any plan that the operator draws for it.
#[derive(Debug)]
pub struct DevicePlan {
    address: u64,
    layout: PlanLayout,
    /// The device that a plan was uploaded to, in the order of the stream that it was uploaded on; or [`NOWHERE`].
    uploaded: AtomicI32,
}

/// No device's number.
const NOWHERE: i32 = -1;

/// The plan that a call follows.
#[derive(Clone, Copy, Debug)]
pub enum PlanSource<'a> {
    /// Uploaded by the call itself.
    Host(&'a Plan),
    /// Uploaded before by [`DevicePlan::upload`]; refused if it never was, or to another device.
    Device(&'a DevicePlan),
}

/// Device memory for a call's own use, aligned to 256 bytes; without it, a pool that the library has
/// for each context and that keeps its memory.
#[derive(Clone, Copy, Debug)]
pub struct Workspace {
    /// Its address.
    pub data: *mut c_void,
    /// Its size.
    pub bytes: usize,
}

/// Whether this machine has a CUDA driver and a device that the library can use.
///
/// # Errors
/// [`Error::CudaUnavailable`] with the reason.
pub fn cuda_available() -> Result<()> {
    driver::driver().map(|_| ())
}

/// The number of the CUDA device that a stream is of.
///
/// # Errors
/// [`Error::CudaUnavailable`], [`Error::Cuda`].
///
/// # Safety
/// The stream is live.
pub unsafe fn cuda_device_of_stream(stream: CudaStream) -> Result<i32> {
    // SAFETY: the caller's promise.
    Ok(unsafe { Stream::enter(stream.0) }?.device())
}

/// The number of the CUDA device whose memory an address is in.
///
/// # Errors
/// [`Error::CudaUnavailable`]; [`Error::Cuda`] for memory that is not CUDA's.
pub fn cuda_device_of_address(address: *const c_void) -> Result<i32> {
    driver::device_of_address(address as u64)
}

/// Whether a class id of K or more was met since the last check: in any call on the stream's context that left
/// [`DeviceOutput::bad_label`] null, and as far as the device has come. Does not wait for it.
///
/// # Errors
/// [`Error::InvalidArgument`] that names the largest index of such a sample in its batch, once; what
/// [`cuda_device_of_stream`] reports.
///
/// # Safety
/// The stream is live.
pub unsafe fn check_cuda_labels(stream: CudaStream) -> Result<()> {
    // SAFETY: the caller's promise.
    match unsafe { Stream::enter(stream.0) }?.take_bad_label() {
        0 => Ok(()),
        sample => Err(Error::invalid(
            format!("labels[{}]", sample - 1),
            "must be below num_classes",
            "a larger class id in a batch on the CUDA device, whose label is a row of zeros",
        )),
    }
}

impl DevicePlan {
    /// Bytes that a device plan takes, for a batch shape and an operator of this configuration.
    pub fn bytes(config: &Config, shape: BatchShape) -> usize {
        Self::layout(config, shape).bytes
    }

    /// What it has room for.
    pub fn shape(&self) -> BatchShape {
        self.layout.shape
    }

    /// The number of the device that its memory is on.
    ///
    /// # Errors
    /// As [`cuda_device_of_address`].
    pub fn device(&self) -> Result<i32> {
        driver::device_of_address(self.address)
    }

    fn layout(config: &Config, shape: BatchShape) -> PlanLayout {
        PlanLayout::new(shape, config.k_max as usize, 1)
    }

    /// A plan at `data`, device memory of [`DevicePlan::bytes`] bytes, aligned to 16.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape out of range, an address that is null or not aligned, or too few bytes.
    ///
    /// # Safety
    /// `data` is device memory of `bytes` bytes as long as the plan is used.
    pub unsafe fn at(config: &Config, shape: BatchShape, data: *mut c_void, bytes: usize) -> Result<Self> {
        shape.validate()?;
        let layout = Self::layout(config, shape);
        check_address("buffer", data as u64, 16)?;
        if bytes < layout.bytes {
            return Err(Error::invalid("buffer", format!("must have at least {} bytes", layout.bytes), bytes));
        }
        Ok(DevicePlan { address: data as u64, layout, uploaded: AtomicI32::new(NOWHERE) })
    }

    /// Uploads a plan, asynchronously in the stream's order: what was launched before sees the earlier one.
    ///
    /// # Errors
    /// [`Error::Shape`] for a plan of another shape, [`Error::Unsupported`] for one with more layers or different
    /// decay powers than there is room for, and for a stream that is being captured; [`Error::Cuda`].
    ///
    /// # Safety
    /// The stream is live.
    pub unsafe fn upload(&self, plan: &Plan, stream: CudaStream) -> Result<()> {
        // SAFETY: the caller's promise.
        let stream = unsafe { Stream::enter(stream.0) }?;
        if stream.capturing {
            return Err(Error::Unsupported(
                "stream: is capturing; upload a plan before the capture or the replay".into(),
            ));
        }
        upload(&stream, plan, &self.layout, self.address)?;
        self.uploaded.store(stream.device(), Ordering::Release);
        Ok(())
    }
}

fn upload(stream: &Stream, plan: &Plan, layout: &PlanLayout, address: u64) -> Result<u32> {
    thread_local! {
        static TABLES: RefCell<Tables> = RefCell::default();
    }
    let _mode = DefaultFloatMode::enter();
    stream.upload(address, layout.bytes, |to| TABLES.with_borrow_mut(|tables| plan::write(plan, layout, tables, to)))
}

impl MiaMix {
    /// Bytes of device memory that [`MiaMix::apply_cuda`] and [`MiaMix::masks_cuda`] need for any plan that this
    /// operator draws for a batch shape.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape out of range.
    pub fn cuda_workspace_bytes(&self, shape: BatchShape) -> Result<usize> {
        shape.validate()?;
        let layout = DevicePlan::layout(self.config(), shape);
        Ok(Grid::new(&layout, shape.samples * layout.k_max)?.plan_at + layout.bytes)
    }

    /// Mixes a batch in device memory under a plan, on a stream of the caller's: the bits of [`MiaMix::apply`].
    ///
    /// Does not wait for the device. Class ids cannot be checked before: see [`DeviceOutput::bad_label`].
    ///
    /// # Errors
    /// As [`MiaMix::apply`]; [`Error::CudaUnavailable`], [`Error::Cuda`], [`Error::OutOfMemory`];
    /// [`Error::Unsupported`] for a plan that is not uploaded yet while the stream is being captured;
    /// [`Error::InvalidArgument`] for a workspace that is too small, and for a [`DevicePlan`] that was never uploaded,
    /// or to another device.
    ///
    /// # Safety
    /// The stream is live; every address is device memory of its context, inputs and outputs as large as their shapes
    /// say and alive until the stream has done the work.
    pub unsafe fn apply_cuda(
        &self,
        plan: PlanSource<'_>,
        batch: DeviceBatch<'_>,
        output: DeviceOutput<'_>,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> Result<()> {
        let shape = plan.shape();
        check_images(shape, &batch.images, &batch.partner_images, &output.images)?;
        let raws = [batch.images.raw, batch.partner_images.raw, output.images.raw];
        for (name, raw) in ["images", "partner_images", "mixed_images"].into_iter().zip(&raws) {
            check_tensor(name, raw)?;
        }
        let mut launch = Launch {
            primary: tensor(&raws[0]),
            partner: tensor(&raws[1]),
            out: tensor(&raws[2]),
            channels: raws[2].shape[1] as u32,
            sink: sink(batch.images.dtype()),
            element_bytes: batch.images.dtype().size() as u32,
            access: access(&raws),
            label_weight: output.label_weight as u64,
            partner_index: output.partner_index as u64,
            bad_label: output.bad_label as u64,
            ..Launch::default()
        };
        let labels = describe_labels(self.config(), &batch.labels, &output, shape.samples, &mut launch)?;
        let n = shape.samples;
        let outputs = [
            ("mixed_images", raws[2].bytes()),
            ("mixed_labels", labels.1),
            ("label_weight", bytes_at(output.label_weight, n)),
            ("partner_index", bytes_at(output.partner_index, n)),
            ("bad_label", bytes_at(output.bad_label, 1)),
        ];
        let inputs = [("images", raws[0].bytes()), ("partner_images", raws[1].bytes()), ("labels", labels.0)];
        for (i, output) in outputs.iter().enumerate() {
            for other in inputs.iter().chain(&outputs[..i]) {
                check_apart(output.clone(), other.clone())?;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { run(plan, launch, None, workspace, stream) }
    }

    /// [`MiaMix::pass_through`] of a batch in device memory.
    ///
    /// # Errors
    /// As [`MiaMix::apply_cuda`].
    ///
    /// # Safety
    /// As [`MiaMix::apply_cuda`].
    pub unsafe fn pass_through_cuda(
        &self,
        batch: DeviceBatch<'_>,
        output: DeviceOutput<'_>,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> Result<()> {
        let (op, plan) = self.still(&batch.images)?;
        // SAFETY: the caller's promise.
        unsafe { op.apply_cuda(PlanSource::Host(&plan), batch, output, workspace, stream) }
    }

    /// Mixes label maps in device memory under a plan, as [`MiaMix::apply_maps`] does: addresses by [`Maps::from_raw`].
    ///
    /// # Errors
    /// As [`MiaMix::apply_cuda`].
    ///
    /// # Safety
    /// As [`MiaMix::apply_cuda`].
    pub unsafe fn apply_maps_cuda(
        &self,
        plan: PlanSource<'_>,
        primary: Maps<'_>,
        partner: Maps<'_>,
        out: MapsMut<'_>,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> Result<()> {
        let (primary, partner, out) = (primary.raw, partner.raw, out.raw);
        check_maps(plan.shape(), &primary, &partner, &out)?;
        let launch = Launch {
            primary: tensor(&primary),
            partner: tensor(&partner),
            out: tensor(&out),
            channels: 1,
            element_bytes: out.size as u32,
            sink: match out.size {
                1 => SINK_MAP8,
                2 => SINK_MAP16,
                4 => SINK_MAP32,
                _ => SINK_MAP64,
            },
            ..Launch::default()
        };
        // SAFETY: the caller's promise.
        unsafe { run(plan, launch, None, workspace, stream) }
    }

    /// Renders the masks of a plan into device memory, `[N, H, W]` f32 and compact, and what its labels weigh, `[N]`;
    /// a null address is a result that is not wanted.
    ///
    /// # Errors
    /// As [`MiaMix::apply_cuda`].
    ///
    /// # Safety
    /// As [`MiaMix::apply_cuda`].
    pub unsafe fn masks_cuda(
        &self,
        plan: PlanSource<'_>,
        masks: *mut f32,
        label_weight: *mut f32,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> Result<()> {
        let BatchShape { samples, height, width } = plan.shape();
        check_apart(
            ("label_weight", bytes_at(label_weight, samples)),
            ("masks", bytes_at(masks, samples * height * width)),
        )?;
        let launch = Launch { label_weight: label_weight as u64, ..masks_of(plan.shape(), masks as u64) };
        // SAFETY: the caller's promise.
        unsafe { run(plan, launch, None, workspace, stream) }
    }

    /// Bytes of device memory that [`MiaMix::backward_cuda`] needs for any plan that this operator draws for a batch
    /// shape.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape out of range.
    pub fn cuda_backward_workspace_bytes(&self, shape: BatchShape) -> Result<usize> {
        Ok(self.cuda_workspace_bytes(shape)? + masks_bytes(shape))
    }

    /// The gradient of [`MiaMix::apply_cuda`] in device memory: the bits of [`MiaMix::backward`].
    ///
    /// # Errors
    /// As [`MiaMix::backward`] and [`MiaMix::apply_cuda`].
    ///
    /// # Safety
    /// As [`MiaMix::apply_cuda`].
    pub unsafe fn backward_cuda(
        &self,
        plan: PlanSource<'_>,
        grad_mixed: Images<'_>,
        grad_images: ImagesMut<'_>,
        grad_partner: Option<ImagesMut<'_>>,
        workspace: Option<Workspace>,
        stream: CudaStream,
    ) -> Result<()> {
        check_gradients(plan.shape(), &grad_mixed, &grad_images, grad_partner.as_ref())?;
        check_tensor("grad_mixed", &grad_mixed.raw)?;
        check_tensor("grad_images", &grad_images.raw)?;
        if let Some(grad_partner) = &grad_partner {
            check_tensor("grad_partner_images", &grad_partner.raw)?;
        }
        let launch = Launch {
            primary: tensor(&grad_mixed.raw),
            partner: grad_partner.map_or(Tensor::default(), |images| tensor(&images.raw)),
            out: tensor(&grad_images.raw),
            channels: grad_mixed.raw.shape[1] as u32,
            sink: sink(grad_mixed.dtype()),
            ..Launch::default()
        };
        // SAFETY: the caller's promise.
        unsafe { run(plan, masks_of(plan.shape(), 0), Some(launch), workspace, stream) }
    }
}

impl PlanSource<'_> {
    fn shape(&self) -> BatchShape {
        match self {
            PlanSource::Host(plan) => plan.shape(),
            PlanSource::Device(plan) => plan.layout.shape,
        }
    }
}

/// Uploads the plan, if it is not yet, and launches; with a gradient, what it is launched with once the masks that
/// `launch` asks for are in the workspace.
///
/// # Safety
/// As [`MiaMix::apply_cuda`].
unsafe fn run(
    plan: PlanSource<'_>,
    mut launch: Launch,
    gradient: Option<Launch>,
    workspace: Option<Workspace>,
    stream: CudaStream,
) -> Result<()> {
    let uploaded_to = match plan {
        PlanSource::Host(_) => None,
        PlanSource::Device(plan) => Some(plan.uploaded.load(Ordering::Acquire)),
    };
    // Kernels would follow whatever lies there.
    if uploaded_to == Some(NOWHERE) {
        let rule = "must have been uploaded (miamix_plan_upload) before it is applied";
        return Err(Error::invalid("plan", rule, "a plan in device memory that never was"));
    }
    // SAFETY: the caller's promise.
    let stream = unsafe { Stream::enter(stream.0) }?;
    if let Some(other) = uploaded_to.filter(|&device| device != stream.device()) {
        let rule = format!("must be one that was uploaded to CUDA device {}, where the tensors are", stream.device());
        return Err(Error::invalid("plan", rule, format_args!("one of device {other}")));
    }
    if launch.bad_label == 0 {
        launch.bad_label = stream.bad_label();
    }
    let (layout, n_fmix, plan_bytes) = match plan {
        PlanSource::Host(_) if stream.capturing => {
            return Err(Error::Unsupported(
                "stream: is capturing, which takes only a plan that was uploaded before".into(),
            ));
        }
        PlanSource::Host(plan) => {
            let layout = PlanLayout::of(plan);
            let n_fmix = plan.layers.iter().filter(|layer| layer.shape.method() == crate::Method::FMix).count();
            (layout, n_fmix, layout.bytes)
        }
        PlanSource::Device(plan) => (plan.layout, plan.layout.shape.samples * plan.layout.k_max, 0),
    };
    if layout.shape.samples == 0 {
        return Ok(());
    }
    let grid = Grid::new(&layout, n_fmix)?;
    let gradient_tiles = if gradient.is_some() { gradient_tiles(layout.shape)? } else { 0 };
    let masks_bytes = if gradient.is_some() { masks_bytes(layout.shape) } else { 0 };
    let needed = masks_bytes + grid.plan_at + plan_bytes;
    let pooled = match workspace {
        Some(workspace) => {
            check_address("workspace", workspace.data as u64, 256)?;
            if workspace.bytes < needed {
                return Err(Error::invalid("workspace", format!("must have at least {needed} bytes"), workspace.bytes));
            }
            None
        }
        None if needed > 0 => Some(stream.allocate(needed)?),
        None => None,
    };
    let masks = match (&workspace, &pooled) {
        (Some(workspace), _) => workspace.data as u64,
        (None, Some(pooled)) => pooled.address,
        (None, None) => 0,
    };
    let memory = masks + masks_bytes as u64;
    let plan_address = match plan {
        PlanSource::Device(plan) => plan.address,
        PlanSource::Host(plan) => {
            let address = memory + grid.plan_at as u64;
            upload(&stream, plan, &layout, address)?;
            address
        }
    };
    grid.describe(&layout, plan_address, memory, &mut launch);
    if gradient.is_some() {
        launch.out.data = masks;
    }
    if grid.small {
        // SAFETY: everything that `launch` points to was checked, or is the caller's promise.
        unsafe { stream.launch(Kernel::Small, layout.shape.samples as u32, grid.shared_bytes(), &launch) }?;
    } else {
        // Sums and counts of tiles lie first, one after the other.
        stream.clear(memory, grid.done_at + 4 * layout.shape.samples)?;
        for &phase in grid.phases() {
            launch.phase = phase;
            // SAFETY: as above.
            unsafe { stream.launch(Kernel::Large, grid.blocks(&layout, phase) as u32, grid.shared_bytes(), &launch) }?;
        }
    }
    let Some(mut gradient) = gradient else { return Ok(()) };
    grid.describe(&layout, plan_address, memory, &mut gradient);
    (gradient.masks, gradient.tiles) = (masks, gradient_tiles);
    let blocks = layout.shape.samples as u32 * gradient_tiles;
    // SAFETY: as above.
    unsafe { stream.launch(Kernel::Backward, blocks, 0, &gradient) }
}

/// Blocks of a gradient for each image, a thread a pixel.
fn gradient_tiles(shape: BatchShape) -> Result<u32> {
    let tiles = (shape.height * shape.width).div_ceil(BLOCK as usize);
    check_blocks(shape, (shape.samples * tiles) as u64)?;
    Ok(tiles as u32)
}

/// What renders the masks of a plan.
fn masks_of(shape: BatchShape, masks: u64) -> Launch {
    let (pixels, width) = ((shape.height * shape.width) as i64, shape.width as i64);
    let out = Tensor { data: masks, strides: [pixels, pixels, width, 1] };
    Launch { sink: SINK_MASKS, out, element_bytes: 4, channels: 1, ..Launch::default() }
}

/// Bytes of the masks of a batch, in whole parts of a workspace.
fn masks_bytes(shape: BatchShape) -> usize {
    (shape.samples * shape.height * shape.width * size_of::<f32>()).next_multiple_of(launch::ALIGN)
}

fn sink(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => SINK_F32,
        Dtype::F16 => SINK_F16,
        Dtype::Bf16 => SINK_BF16,
        Dtype::U8 => SINK_U8,
    }
}

fn tensor(raw: &Raw) -> Tensor {
    Tensor { data: raw.data as u64, strides: raw.strides.map(|stride| stride as i64) }
}

/// How elements are met: whole groups in one access where all three tensors allow it.
fn access(raws: &[Raw; 3]) -> u32 {
    let group = GROUP as usize;
    let whole = |stride: isize| stride.unsigned_abs().is_multiple_of(group);
    let aligned = |raw: &Raw| (raw.data as usize).is_multiple_of(group * raw.size);
    let [_, channels, height, width] = raws[2].shape;
    let within = |raw: &Raw| {
        let [_, c, y, x] = raw.strides.map(|stride| stride as i128);
        let last = c * (channels as i128 - 1) + y * (height as i128 - 1) + x * (width as i128 - 1);
        c >= 0 && y >= 0 && last <= u32::MAX.into()
    };
    let planar = |raw: &Raw| {
        let [n, c, y, x] = raw.strides;
        aligned(raw) && within(raw) && x == 1 && whole(n) && whole(c) && whole(y)
    };
    let interleaved = |raw: &Raw| {
        let [n, c, y, x] = raw.strides;
        aligned(raw) && within(raw) && c == 1 && x == channels as isize && whole(n) && whole(y)
    };
    match width.is_multiple_of(group) {
        true if raws.iter().all(planar) => ACCESS_PLANAR,
        true if raws.iter().all(interleaved) => ACCESS_INTERLEAVED,
        _ => ACCESS_STRIDED,
    }
}

/// Fills in the labels; the bytes that they and the mixed ones span.
fn describe_labels(
    config: &Config,
    labels: &DeviceLabels,
    output: &DeviceOutput<'_>,
    n_samples: usize,
    launch: &mut Launch,
) -> Result<(Range<usize>, Range<usize>)> {
    let (kind, data, strides, size, n_classes) = match *labels {
        DeviceLabels::None => (LABELS_NONE, 0, [0, 0], 0, 0),
        DeviceLabels::Ids { data, stride, n_classes } => (LABELS_I64, data as u64, [stride, 0], 8, n_classes),
        DeviceLabels::Ids32 { data, stride, n_classes } => (LABELS_I32, data as u64, [stride, 0], 4, n_classes),
        DeviceLabels::Soft { data, strides, n_classes } => (LABELS_F32, data as u64, strides, 4, n_classes),
    };
    if n_classes > i32::MAX as usize {
        return Err(Error::invalid("num_classes", "must be at most 2147483647", n_classes));
    }
    let has_labels = n_classes > 0 && n_samples > 0;
    if has_labels && output.labels.is_null() {
        return Err(Error::invalid("mixed_labels", "must be given where labels are", "none"));
    }
    if kind == LABELS_NONE && !output.labels.is_null() {
        return Err(Error::invalid("mixed_labels", "must be left out without labels", "an address"));
    }
    if !has_labels {
        return Ok((0..0, 0..0));
    }
    check_address("labels", data, size)?;
    check_address("mixed_labels", output.labels as u64, 4)?;
    launch.label_kind = kind;
    launch.labels = data;
    launch.label_strides = strides.map(|stride| stride as i64);
    launch.mixed_labels = output.labels as u64;
    launch.mixed_label_strides = output.label_strides.map(|stride| stride as i64);
    launch.n_classes = n_classes as u32;
    [launch.hot_on, launch.hot_off] = config.one_hot(n_classes);
    let columns = if kind == LABELS_F32 { n_classes } else { 1 };
    let read = span_of(data as *const u8, size as usize, &[n_samples, columns], &strides);
    let written = span_of(output.labels.cast(), 4, &[n_samples, n_classes], &output.label_strides);
    Ok((read, written))
}

fn check_tensor(name: &str, raw: &Raw) -> Result<()> {
    if raw.shape.contains(&0) { Ok(()) } else { check_address(name, raw.data as u64, raw.size as u64) }
}

fn check_address(name: &str, address: u64, alignment: u64) -> Result<()> {
    if address != 0 && address.is_multiple_of(alignment) {
        return Ok(());
    }
    Err(Error::invalid(
        name,
        format!("must be the address of device memory, a multiple of {alignment}"),
        format_args!("{address:#x}"),
    ))
}

fn bytes_at<T>(data: *const T, n: usize) -> Range<usize> {
    if data.is_null() { 0..0 } else { data as usize..data as usize + n * size_of::<T>() }
}
