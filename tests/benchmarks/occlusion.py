"""How fast are occlusion maps on windows? python tests/benchmarks/occlusion.py [NET SIZE WINDOW STRIDE]... [--sizes 224 299 448] [--out FILE.json] [--processor]

Without cases, six nets at each of the sizes (by default 224): windows of 32 pixels, at a stride of 16, from 448 pixels on of 32.
On a GPU where there is one, else on the threads that PyTorch takes (OMP_NUM_THREADS); `--images` puts several in one call.

Against captum as it comes (one window a pass), and against the best dense batch: batch norms folded, channels last, 32 copies at once.
All in one process, interleaved, minima; on a busy machine count the processor's seconds (`--processor`, OMP_NUM_THREADS=1). Printed beside: the largest difference of the maps, the multiplications left, and the gain
over the dense batch as a share of the gain that those promise; and how fast each of the three multiplies, beside a plain product
of two large matrices, which no convolution outruns: that speed and the work left bound the gain that any machine can show.
captum makes the map of one class, the others make all: the ratios are for one class."""
import argparse, copy, json, os, time, warnings
warnings.filterwarnings('ignore')
import timm, torch, torchvision
from pathlib import Path
from torch.fx.experimental.optimization import fuse
from fundus_fastai.vision.profile import multiply_adds
from fundus_fastai.explain import occlusion as occ
from fundus_fastai.explain.windows import changed, filled

NETS = ['resnet50','resnet18','inception_v3','densenet121','mobilenetv2_100','vgg16_bn']

def made(arch):
    "The net with four outputs, of timm or of torchvision"
    make = timm.create_model if timm.is_model(arch) else torchvision.models.get_model
    return make(arch, num_classes=4).eval()

def windows(net, x, window, stride): return occ.occlusion(net, x, window, stride=stride, fill=0., target=0, progress=False).values[:,0]

def best_dense(net, x, window, stride, bs=32):
    "Whole pictures, by the fused net"
    w = (window,window),(stride,stride)
    return torch.stack([one_dense(net, o[None], w, bs) for o in x])

def one_dense(net, x, w, bs):
    y = filled(x, 0., w[0])
    boxes = occ._boxes(changed(x, y, w[0], stride=w[1]), x.shape[2:], *w)[0]
    boxes = boxes[boxes[:,1]<x.shape[2]]
    boxes = boxes[torch.argsort(boxes[:,1]*10**6+boxes[:,2])]
    with torch.no_grad():
        s = [net(occ._copies(x, y, b, w[0], x.device).contiguous(memory_format=torch.channels_last))[:,0] for b in boxes.split(bs)]
        v = net(x)[0,0]-torch.cat(s)
    return v.view([len(occ.window_starts(n, *o)) for n,o in zip(x.shape[2:], zip(*w))]).cpu()

def by_captum(net, x, window, stride):
    from captum.attr import Occlusion
    one = x.shape[1]
    with torch.no_grad():
        a = [Occlusion(net).attribute(o[None], (one,window,window), (one,stride,stride), 0., target=0)[0,0] for o in x]
    return torch.stack(a).cpu()

clock = time.perf_counter

def timed(f, *args):
    t = clock(); v = f(*args)
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return v,clock()-t

def product(n):
    "Multiply two matrices of side `n`; multiply-adds a second, in G"
    a = torch.ones(n, n, device='cuda' if torch.cuda.is_available() else 'cpu')
    return n**3/1e9/min(timed(torch.mm, a, a)[1] for _ in range(5))

def speeds(arch, size, n, work, mine, whole, cap, peak):
    "One line on who multiplies how fast, and what the work left allows at most"
    full = n*multiply_adds(made(arch), size)/1e9
    print(f'{"":16s} G multiply-adds a second: {work*full/mine:.0f} here, {full/whole:.0f} dense, {full/cap:.0f} captum, '
          f'{peak:.0f} matrices alone; at that speed at most {cap*peak/(work*full):.1f} x captum', flush=True)

def main(cases, rounds, images):
    dev = 'cuda' if torch.cuda.is_available() else 'cpu'
    print(f'{dev}, {torch.get_num_threads()} threads, minima of {rounds} rounds')
    rows = []
    for arch,size,window,stride in cases:
        torch.manual_seed(0)
        net,x = made(arch).to(dev),torch.randn(images,3,size,size, device=dev)
        try: fused = fuse(net)
        except torch.fx.proxy.TraceError: fused = copy.deepcopy(net) # fx cannot read this net's code
        fused = fused.to(memory_format=torch.channels_last)
        a = net,x,window,stride
        runs = [(timed(windows, *a), timed(best_dense, fused, *a[1:]), timed(by_captum, *a)) for _ in range(rounds)]
        peak = max(product(2048) for _ in range(rounds))
        mine,whole,cap = (min(r[i][1] for r in runs) for i in range(3))
        v,d,c = (runs[0][i][0] for i in range(3))
        m = occ.spread(v[:,None], (size,size), (window,window), stride=(stride,stride))[:,0]
        with torch.no_grad(): gap = max(float((v-d).abs().max()), float((m-c).abs().max()))/float(net(x).abs().max())
        work = occ.plan(net, size, window, stride=stride).attrs['work']
        print(f'{arch:16s} {size} px, {window}/{stride}, {v.numel()} windows: {cap/mine:4.1f} x captum, {whole/mine:4.1f} x dense '
              f'({mine:.2f} s, {cap:.2f} s, {whole:.2f} s); work {work:.2f}, '
              f'{whole/mine*work:.0%} of the gain it promises; maps differ by {gap:.0e} of the largest score', flush=True)
        speeds(arch, size, v.numel(), work, mine, whole, cap, peak)
        rows.append(dict(net=arch, size=size, window=window, stride=stride, windows=v.numel(), seconds=dict(ours=mine, captum=cap, dense=whole),
                         times_captum=cap/mine, times_dense=whole/mine, work=work, gap=gap))
    return dict(torch=torch.__version__, device=dev, cores=os.cpu_count(), threads=torch.get_num_threads(), rounds=rounds, clock=clock.__name__,
                load=[round(o, 1) for o in os.getloadavg()], rows=rows)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('cases', nargs='*'); p.add_argument('--sizes', type=int, nargs='*', default=[224])
    p.add_argument('--rounds', type=int, default=2); p.add_argument('--images', type=int, default=1)
    p.add_argument('--out')
    p.add_argument('--processor', action='store_true')
    o = p.parse_args()
    if o.processor: clock = time.process_time
    given = [(o.cases[i],*map(int, o.cases[i+1:i+4])) for i in range(0, len(o.cases), 4)]
    res = main(given or [(n,s,32,16 if s<448 else 32) for s in o.sizes for n in NETS], o.rounds, o.images)
    if o.out: Path(o.out).write_text(json.dumps(res, indent=1))
