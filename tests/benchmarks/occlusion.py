"""How much faster are occlusion maps on windows than on whole pictures? python tests/benchmarks/occlusion.py [NET SIZE WINDOW STRIDE]...

Both in one process, interleaved, minima of several rounds; the largest difference between them is printed beside."""
import sys, time, warnings
warnings.filterwarnings('ignore')
import timm, torch
from fundus_fastai.explain import occlusion as occ

CASES = [('resnet18',224,32,16), ('resnet50',224,32,16), ('resnet50',448,32,32), ('densenet121',224,32,16), ('mobilenetv2_100',224,32,16),
         ('inception_v3',299,32,16), ('vgg16_bn',224,32,32)]

def whole(*args): raise RuntimeError("whole pictures, please")

def timed(net, x, window, stride, fast):
    "Seconds, and the values of the map"
    was,occ._one_image = occ._one_image,occ._one_image if fast else whole
    t = time.perf_counter()
    try: return occ.occlusion(net, x, window, stride, bs=32, progress=False).values,time.perf_counter()-t
    finally: occ._one_image = was

def main(cases, rounds=2):
    dev = 'cuda' if torch.cuda.is_available() else 'cpu'
    print(f'{dev}, {torch.get_num_threads()} threads; whole pictures in batches of 32 over windows')
    for arch,size,window,stride in cases:
        torch.manual_seed(0)
        net,x = timm.create_model(arch, num_classes=4).eval().to(dev),torch.randn(1,3,size,size)
        found = [(timed(net, x, window, stride, True), timed(net, x, window, stride, False)) for _ in range(rounds)]
        (a,_),(b,_) = found[0]
        fast,slow = (min(f[i][1] for f in found) for i in (0,1))
        print(f'{arch:18s} {size} px, {window}/{stride}, {a[0,0].numel()} windows: {slow/fast:5.2f} x '
              f'({fast:.2f} s against {slow:.2f} s), largest difference {float((a-b).abs().max()/b.abs().max()):.0e} of the largest value',
              flush=True)

if __name__=='__main__':
    o = sys.argv[1:]
    main([(o[i],*map(int, o[i+1:i+4])) for i in range(0, len(o), 4)] or CASES)
