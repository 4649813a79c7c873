// Part of driver.cpp: what an application calls of the driver beside the library (tests/gpu/driver.py does).
//
// Waiting for a stream does what is on it. A fault of a kernel stays: from then on every call fails with its code, as
// on a device. Events tell no time.

API CUresult cuDriverGetVersion(int* version) { return *version = 0, SUCCESS; }
API CUresult cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "stand-in"), SUCCESS; }
API CUresult cuDeviceGetAttribute(int* value, int, int) { return *value = 1 << 16, SUCCESS; }
API CUresult cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = (size_t)1 << 30, SUCCESS; }
API CUresult cuCtxSetCurrent(void* context) {
  current.assign(1, (Context*)context);
  return SUCCESS;
}

API CUresult cuStreamCreate(void** stream, unsigned) {
  LOCK;
  made_streams.push_back({&context_list[0], {}, false, {}});
  *stream = &made_streams.back();
  return broken;
}
API CUresult cuStreamSynchronize(void* stream) {
  LOCK;
  if (broken) return broken;
  const char* error = stand_in_run(stream);
  if (error) {
    fprintf(stderr, "the stand-in driver: %s\n", error);
    broken = ILLEGAL_ADDRESS;
  }
  return broken;
}
API CUresult cuCtxSynchronize() {
  LOCK;
  for (Stream& stream : made_streams) {
    if (!stream.capturing && !broken) cuStreamSynchronize(&stream);
  }
  return broken;
}
API CUresult cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  if (broken) return broken;
  // A guard before and after: what is written there comes to light when it is freed.
  char* memory = (char*)aligned_alloc(512, (bytes + 511) / 512 * 512 + 1024);
  memset(memory, 0x5A, (bytes + 511) / 512 * 512 + 1024);
  LOCK;
  allocations[memory + 512] = bytes;
  *address = (uint64_t)(memory + 512);
  return SUCCESS;
}
// Waits for the whole device first, as the driver does.
API CUresult cuMemFree_v2(uint64_t address) {
  LOCK;
  for (Stream& stream : made_streams) {
    if (!stream.capturing && !broken) cuStreamSynchronize(&stream);
  }
  auto found = allocations.find((void*)address);
  if (found == allocations.end()) return INVALID_VALUE;
  char* memory = (char*)address;
  const size_t bytes = found->second, end = (bytes + 511) / 512 * 512 + 512;
  const auto untouched = [](char byte) { return byte == 0x5A; };
  if (!std::all_of(memory - 512, memory, untouched) || !std::all_of(memory + bytes, memory + end, untouched)) {
    fprintf(stderr, "the stand-in driver: something was written beside %zu bytes of device memory\n", bytes);
    abort();
  }
  free(memory - 512);
  allocations.erase(found);
  return broken;
}
// STAND_IN_FLIP: one bit of what is read is wrong, which whoever compares must notice.
// STAND_IN_LOSE: from that many reads on the device is lost. STAND_IN_HANG: that read never ends.
API CUresult cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
  static int reads = 0;
  ++reads;
  if (getenv("STAND_IN_LOSE") && reads >= atoi(getenv("STAND_IN_LOSE"))) broken = ILLEGAL_ADDRESS;
  while (getenv("STAND_IN_HANG") && reads == atoi(getenv("STAND_IN_HANG"))) pause();
  return put(stream, [=] {
    memcpy(to, (const void*)from, bytes);
    if (bytes && getenv("STAND_IN_FLIP")) ((char*)to)[bytes - 1] ^= 1;
  });
}
API CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
  return put(stream, [=] { memcpy((void*)to, (const void*)from, bytes); });
}

API CUresult cuEventSynchronize(void*) { return broken; }
API CUresult cuEventElapsedTime(float* ms, void*, void*) { return *ms = 1.0f, broken; }

API CUresult cuStreamBeginCapture_v2(void* stream, int) { return stand_in_begin_capture(stream), broken; }
API CUresult cuStreamEndCapture(void* stream, void** graph) {
  LOCK;
  stand_in_end_capture(stream);
  *graph = new std::vector<Work>(stream_of(stream)->graph);
  return broken;
}
API CUresult cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
  std::vector<Work>& held = *(std::vector<Work>*)graph;
  for (size_t i = 0; nodes && i < *count && i < held.size(); ++i) nodes[i] = &held[i];
  return *count = held.size(), SUCCESS;
}
// Of a kernel; of anything else, one type.
API CUresult cuGraphNodeGetType(void* node, int* type) { return *type = ((Work*)node)->is_kernel ? 0 : 2, SUCCESS; }
API CUresult cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  return *executable = graph, broken;
}
API CUresult cuGraphLaunch(void* executable, void* stream) {
  LOCK;
  for (Work& work : *(std::vector<Work>*)executable) stream_of(stream)->queue.push_back(work);
  return broken;
}
API CUresult cuGraphDestroy(void*) { return SUCCESS; }
API CUresult cuGraphExecDestroy(void* executable) {
  delete (std::vector<Work>*)executable;
  return SUCCESS;
}
