import type { Operation } from "../operation.js";
import { adamwOperation } from "./adamw.js";
import { addOperation } from "./add.js";
import { attentionGradOperation, attentionOperation } from "./attention.js";
import { balanceGradOperation } from "./balance_grad.js";
import { carryStateOperation } from "./carry_state.js";
import { castOperation } from "./cast.js";
import { ccaConvGradOperation, ccaConvOperation } from "./cca_conv.js";
import { ccaHeadsOperation } from "./cca_heads.js";
import { ccaProjectOperation } from "./cca_project.js";
import { ccaQkGradOperation, ccaQkOperation } from "./cca_qk.js";
import { clipScaleOperation } from "./clip_scale.js";
import { columnSumOperation } from "./column_sum.js";
import { combineGradOperation, combineOperation } from "./combine.js";
import { concatOperation } from "./concat.js";
import { embeddingOperation } from "./embedding.js";
import { encodeOperation } from "./encode.js";
import { expertSortOperation } from "./expert_sort.js";
import { expertsOperation } from "./experts.js";
import { fillOperation } from "./fill.js";
import { gatherRowsOperation } from "./gather_rows.js";
import { geluGradOperation, geluOperation } from "./gelu.js";
import { groupedLinearInputGradOperation, groupedLinearOperation, groupedLinearWeightGradOperation } from "./grouped_linear.js";
import { linearInputGradOperation, linearOperation, linearWeightGradOperation } from "./linear.js";
import { linearCrossEntropyGradOperation, linearCrossEntropyOperation, linearCrossEntropySumOperation } from "./linear_cross_entropy.js";
import { multiplyOperation } from "./multiply.js";
import { muonOperation } from "./muon.js";
import { kvAppendOperation, pagedAttentionOperation } from "./paged_attention.js";
import { quantiseOperation } from "./quantise.js";
import { randomSampleOperation } from "./random_sample.js";
import { residualMergeGradOperation, residualMergeOperation } from "./residual_merge.js";
import { residualRmsNormOperation } from "./residual_rms_norm.js";
import { rmsNormGradOperation, rmsNormOperation } from "./rms_norm.js";
import { ropeOperation } from "./rope.js";
import { routerOperation } from "./router.js";
import { scaleOperation } from "./scale.js";
import { scatterRowsOperation } from "./scatter_rows.js";
import { selectExpertGradOperation, selectExpertOperation } from "./select_expert.js";
import { sequenceTailOperation } from "./sequence_tail.js";
import { sliceGradOperation, sliceOperation } from "./slice.js";
import { softmaxGradOperation, softmaxOperation } from "./softmax.js";
import { splitOperation } from "./split.js";
import { sumGradOperation, sumOperation } from "./sum.js";
import { sumOfSquaresOperation } from "./sum_of_squares.js";
import { swigluGradOperation, swigluOperation } from "./swiglu.js";
import { topKOperation } from "./top_k.js";
import { valueDelayGradOperation, valueDelayOperation } from "./value_delay.js";

/** Every operation that has a kernel or a decomposition; `reshape` makes its own with each call. */
export const registry: readonly Operation[] = [
  adamwOperation,
  addOperation,
  attentionGradOperation,
  attentionOperation,
  balanceGradOperation,
  carryStateOperation,
  castOperation,
  ccaConvGradOperation,
  ccaConvOperation,
  ccaHeadsOperation,
  ccaProjectOperation,
  ccaQkGradOperation,
  ccaQkOperation,
  clipScaleOperation,
  columnSumOperation,
  combineGradOperation,
  combineOperation,
  concatOperation,
  embeddingOperation,
  encodeOperation,
  expertSortOperation,
  expertsOperation,
  fillOperation,
  gatherRowsOperation,
  geluGradOperation,
  geluOperation,
  groupedLinearInputGradOperation,
  groupedLinearOperation,
  groupedLinearWeightGradOperation,
  linearInputGradOperation,
  linearOperation,
  linearWeightGradOperation,
  linearCrossEntropyGradOperation,
  linearCrossEntropyOperation,
  linearCrossEntropySumOperation,
  multiplyOperation,
  muonOperation,
  kvAppendOperation,
  pagedAttentionOperation,
  quantiseOperation,
  randomSampleOperation,
  residualMergeGradOperation,
  residualMergeOperation,
  residualRmsNormOperation,
  rmsNormGradOperation,
  rmsNormOperation,
  ropeOperation,
  routerOperation,
  scaleOperation,
  scatterRowsOperation,
  selectExpertGradOperation,
  selectExpertOperation,
  sequenceTailOperation,
  sliceGradOperation,
  sliceOperation,
  softmaxGradOperation,
  softmaxOperation,
  splitOperation,
  sumGradOperation,
  sumOperation,
  sumOfSquaresOperation,
  swigluGradOperation,
  swigluOperation,
  topKOperation,
  valueDelayGradOperation,
  valueDelayOperation,
];
