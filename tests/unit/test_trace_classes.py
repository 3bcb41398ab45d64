"""What is communication and of which kind, by the names that libraries of all ages give; and which way a copy goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.classes import COMM_KINDS, comm_kind, named_kind
from shardprof.trace.device_names import COPY_KINDS, copy_kind, kernel_kind
from tests.conftest import Trace

Report = Callable[[Trace], dict[str, Any]]

KERNELS = {
    "all_reduce": [
        "ncclAllReduceRingLLKernel_sum_f32(ncclColl)",  # NCCL up to 2.6
        "ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)",  # up to 2.18
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",  # from 2.19
        "ncclSymDevKernel_AllReduce_RSxLDMC_AGxSTMC_sum_bf16(ncclSymDevArgs)",  # 2.27
        "ncclSymkDevKernel_AllReduce_AGxLL_R_sum_f32(ncclSymkDevWorkArgs4K)",  # from 2.28
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*, vllm::RankSignals)",
        "void sglang::cross_device_reduce_2stage<half, 8>(sglang::RankData*)",
        "void aiter::cross_device_reduce_2stage_write_mode<ck_tile::bf16_t, 8>(aiter::RankData*)",
        "void (anonymous namespace)::one_shot_all_reduce_kernel<c10::BFloat16, 16, 8>(c10::BFloat16**)",
        "void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<float, 16, 8>(float**, int)",
        "void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*)",
        "void c10d::intra_node_comm::oneShotAllReduceKernel<8u, true>(unsigned long)",
        "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<half>(Params)",
        "void tensorrt_llm::kernels::twoShotAllReduceKernel<__nv_bfloat16, 8, true>(AllReduceParams)",
        "void flashinfer::trtllm_mnnvl_allreduce::rmsNormLamport<10, __nv_bfloat16>(int*)",
        "void quickreduce::allreduce_prototype_twoshot<quickreduce::AllReduceTwoshot<half>>(half const*)",
        "void allreduceRsAgPipeline<(mscclpp::ReduceOp)0, __half>(void*)",
        "void rdxn_on_stream_kernel<float, (rdxn_ops)4>(int, float*, float const*, unsigned long)",
        "void userbuffers_fp16_sum_inplace_gpu_mc<8>(int, int)",
        "typeinfo name for AllreduceLargeKernel_GlobalSync<float>",
    ],
    "all_gather": [
        "ncclAllGatherRingLLKernel_copy_i8(ncclColl)",
        "ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclSymDevKernel_AllGather_LL(ncclSymDevArgs)",
        "ncclSymkDevKernel_AllGather_STMC(ncclSymkDevWorkArgs4K)",
        "(anonymous namespace)::multimem_all_gather_kernel(char*, char*)",
        "void fcollect_on_stream_kernel<float>(int, float*, float const*, unsigned long)",
        "void userbuffers_fp16_sum_inplace_gpu_mc_ag<8>(int, int)",
        "void aiter::allgather_vec<float, 8>(aiter::RankData*)",
        "allgatherFullmesh2(void*, mscclpp::MemoryChannel*)",
    ],
    "reduce_scatter": [
        "ncclKernel_ReduceScatter_RING_LL_Sum_half(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclSymkDevKernel_ReduceScatter_LDMC_sum_bf16(ncclSymkDevWorkArgs4K)",
        "void (anonymous namespace)::reduce_scatter_kernel<c10::BFloat16, 16, 8>(c10::BFloat16**)",
        "void aiter::reduce_scatter_cross_device_store<float, 8>(aiter::RankData*)",
        "void userbuffers_fp16_sum_inplace_gpu_rr_rs_oop<8>(int, int)",
        "typeinfo name for ReduceScatterMediumKernel_LocalSync<float>",
    ],
    "all_to_all": [
        "void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)",
        "void deep_ep::intranode::notify_dispatch<8>(int const*, int*)",
        "void deep_ep::intranode::combine<__nv_bfloat16, 8, 768, 4096>(__nv_bfloat16*, float*)",
        "void deep_ep::internode::cached_notify<false>(int, int)",
        "void deep_ep::internode_ll::dispatch<true, 3, 10, 7168>(void*, float*, int*, long*)",
        "void deep_ep::internode_ll::combine<3, 10, 7168, 9>(void*, void*)",
        "void deep_ep::legacy::intranode::dispatch<8, 768, 8192>(int4*, float*)",
        "void deep_ep::elastic::hybrid_dispatch_impl<8>(void*)",
        "void hybrid_ep::dispatch_kernel<uint8_t>(hybrid_ep::dispatch_kernel_param_t<uint8_t>)",
        "void uccl::internode_ll::dispatch<true, 3, 10, 7168>(void*, float*, int*, long*)",
        "void mori::moe::EpDispatchIntraNodeKernel<float>(mori::moe::EpDispatchCombineArgs<float>)",
        "void tensorrt_llm::kernels::mnnvl_throughput::moeA2ADispatchKernel<true, 8>(void*)",
        "void flashinfer::ulysses_a2a_kernel<float>(void*)",
        "c10d::nvshmem_extension::allToAllV(void*, void*, long*, long*)",
        "void alltoall_on_stream_kernel<float>(int, float*, float const*, unsigned long)",
    ],
    "broadcast": [
        "ncclBroadcastRingLLKernel_copy_i8(ncclColl)",
        "ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)",
        "ncclDevKernel_Broadcast_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "void broadcast_on_stream_kernel<float>(int, float*, float const*, unsigned long, int)",
    ],
    "p2p": [
        "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclWorkElem)",
        "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)",
        "c10d::symmetric_memory::put_signal_kernel(unsigned int**, int, int, int, int, unsigned long)",
        "void deep_ep::elastic::pp_send_impl<8>(void*)",
        "nvshmemi_signal_wait_until_on_stream_kernel(unsigned long volatile*, int, unsigned long)",
        "kuserbuffers_pushrecv(int, int, int*, int*, int)",
    ],
    "other_comm": [
        "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)",  # RCCL: what it does stands in its arguments
        "ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)",
        "rcclGenericKernel<1, false>",
        "ncclDevKernel_Reduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "mscclKernel_Sum_float_Simple_false(ncclDevComm*, mscclAlgo*, mscclWork*)",
        "void mscclpp::executionKernel<float, mscclpp::LL16Packet>(int, float*)",
        "void barrier_on_stream_kernel_threadgroup<(threadgroup_t)2>(int, int)",
        "c10d::symmetric_memory::barrier_kernel(unsigned int**, int, int, int, unsigned long)",
        "void deep_ep::intranode::barrier<8>(int**, int)",
        "(anonymous namespace)::multimem_one_shot_reduce_kernel(float*)",
        "oneccl_copy_kernel",
        "hcom_copy__123_0",
    ],
}

COMPUTE = [
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(at::native::ReduceOp<float>)",
    "void at::native::vectorized_gather_kernel<16, long>(char*, char*, long*)",
    "void at::native::_scatter_gather_elementwise_kernel<128, 4, _cuda_scatter_gather_internal_kernel<true, float>>()",
    "void at::native::elementwise_kernel<128, 4, at::native::BroadcastFunctor<float>>(int)",
    "void cub::DeviceReduceKernel<cub::DispatchReduce<float*, float*, int, cub::Sum>>(float*)",
    "void cub::DeviceRadixSortOnesweepKernel<deep_ep::Policy, nccl::Key>(ncclDevComm*)",
    "void vllm::moe::moe_combine_kernel<float>(float*)",
    "void moe_dispatch_kernel(int*)",
    "void flash::flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits<128>>(Flash_fwd_params)",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float>(cublasLt::cublasSplitKParams<float>)",
    "void cudnn::ops::broadcast_tensor_kernel(float*)",
    "void recat_copy_async_kernel<float>(long const*)",
    "void SoftmaxForward<WarpAllReduce, float>(float*)",
    "aiter::scatter_reduce_kernel_impl(float*)",
    "void deep_gemm::sm90_fp8_gemm_1d2d_impl<7168>()",
    "void deep_ep::layout::get_dispatch_layout<256, 8>(long const*, int*)",
    "void deep_ep::elastic::combine_reduce_epilogue_impl<8>(void*)",
    "void flashinfer::trtllm_allreduce::lamport_initialize_kernel<half>(half*)",
    "void flashinfer::trtllm_allreduce::rms_norm_kernel<half>(half*)",
    "void flux::allgather_gemm_kernel<half>(half*)",
    "triton_poi_fused_all_gather_into_tensor_wait_tensor_3",
    "triton_red_fused_add_all_reduce_div_12",
    "softmax_shmem_get_kernel",
    "barrier_kernel",
    "sendMessage",
    "gemm",
    "",
    "(",
]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KERNELS.items() for name in names])
def test_a_kernels_name_tells_its_kind(kind: str, name: str) -> None:
    assert kernel_kind(name) == kind


def test_every_kind_of_communication_has_kernels() -> None:
    assert KERNELS.keys() == set(COMM_KINDS)


@pytest.mark.parametrize("name", COMPUTE)
def test_words_of_communication_do_not_make_a_kernel_one(name: str) -> None:
    assert kernel_kind(name) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("allreduce", "all_reduce"),
        ("allreduce_sparse", "all_reduce"),
        ("allreduce_coalesced", "all_reduce"),
        ("_allgather_base", "all_gather"),
        ("all_gather_into_tensor_coalesced", "all_gather"),
        ("_reduce_scatter_base", "reduce_scatter"),
        ("reduce_scatter_tensor_coalesced", "reduce_scatter"),
        ("all_to_all", "all_to_all"),
        ("all_to_allv", "all_to_all"),
        ("alltoall_base", "all_to_all"),
        ("broadcast", "broadcast"),
        ("_broadcast_oop", "broadcast"),
        ("send", "p2p"),
        ("recv", "p2p"),
        ("recvAnySource", "p2p"),
        ("nccl:send 0->1", "p2p"),
        ("pointToPoint", "p2p"),
        ("reduce", "other_comm"),
        ("_reduce_oop", "other_comm"),
        ("gather", "other_comm"),
        ("scatter", "other_comm"),
        ("barrier", "other_comm"),
        ("nccl:all_reduce_barrier", "other_comm"),
        ("c10d::monitored_barrier_", "other_comm"),
        ("c10d::_allgather_base_", "all_gather"),
        ("gloo:all_reduce", "all_reduce"),
        ("gloo:reduce", "other_comm"),
        ("_c10d_functional::reduce_scatter_tensor", "reduce_scatter"),
        ("wait", None),
        ("nccl:coalesced", None),
        ("record_param_comms", None),
        ("", None),
    ],
)
def test_a_collectives_name_tells_its_kind(name: str, kind: str | None) -> None:
    assert named_kind(name) == kind
    assert comm_kind(name) == (kind or "other_comm")


@pytest.mark.parametrize(
    ("told", "kernel", "kind"),
    [
        ("all_to_all", "ncclDevKernel_SendRecv", "all_to_all"),
        ("gather", "ncclDevKernel_SendRecv", "other_comm"),
        ("barrier", "ncclDevKernel_AllReduce_Sum_f32_RING_LL", "other_comm"),
        ("_allgather_base", "ncclDevKernel_Generic", "all_gather"),
        ("allreduce", "a kernel of another library", "all_reduce"),
        ("wait", "ncclDevKernel_SendRecv", "p2p"),
        ("", "ncclDevKernel_AllGather", "all_gather"),
        (7, "unknown", "other_comm"),
    ],
)
def test_metadata_comes_before_the_name(told: object, kernel: str, kind: str, trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel(kernel, 0, 100, Collective_name=told)
    assert {name: ns for name, ns in trace(made)["steps"][0]["partition_ns"].items() if ns} == {kind: 100}


def test_categories_come_before_names(trace: Report) -> None:
    made = Trace().step(0, 0, 100).kernel("Memcpy PtoP (Device -> Device)", 0, 60, cat="gpu_memcpy")
    made.kernel("ncclDevKernel_AllGather", 60, 100, cat="gpu_memset")
    assert {name: ns for name, ns in trace(made)["steps"][0]["partition_ns"].items() if ns} == {
        "memcpy": 60,
        "memset": 40,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "HtoD"),
        ("Memcpy DtoH (Device -> Pinned)", "DtoH"),
        ("Memcpy DtoD (Device -> Device)", "DtoD"),
        ("Memcpy PtoP (Device -> Device)", "PtoP"),
        ("Memcpy HtoH (Pinned -> Pageable)", "HtoH"),
        ("Memcpy HtoD (Host -> Device)", "HtoD"),  # ROCm today
        ("CopyHostToDevice", "HtoD"),  # ROCm before
        ("CopyDeviceToHost", "DtoH"),
        ("CopyDeviceToDevice", "DtoD"),
        ("MEMORY_COPY_HOST_TO_DEVICE", "HtoD"),
        ("Memcpy M2D (MEMORY(Unknown) -> DEVICE)", "HtoD"),  # XPU
        ("Memcpy D2M", "DtoH"),
        ("Memcpy HtoA (Pageable -> Array)", "other"),
        ("Memcpy AtoD (Array -> Device)", "other"),
        ("Memcpy <unknown> (Unknown -> Unknown)", "other"),
        ("Memcpy", "other"),
        ("", "other"),
    ],
)
def test_a_copys_name_tells_which_way_it_goes(name: str, kind: str) -> None:
    assert copy_kind(name) == kind


@given(st.text())
def test_any_name_has_an_answer(name: str) -> None:
    assert kernel_kind(name) in (*COMM_KINDS, None)
    assert copy_kind(name) in COPY_KINDS


@given(st.sampled_from([name for names in KERNELS.values() for name in names]))
def test_what_stands_in_parameters_communicates_not(name: str) -> None:
    assert kernel_kind(f"void cutlass::device_kernel<{name}>({name})") is None
