"What the app is asked about: nets without training, and files that are no eyes"
import zlib
import torch
from pathlib import Path
from PIL import Image
import dicoms
from nets import labeled
from fundus_fastai.options import TrainOptions
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.vision.model import save_model
from fundus_fastai.vision.steps import make_learner

RUN = Path(__file__).parent/'run/old_run/run' # a small net of phantom scans
NAME = 'x <img src=1 onerror=alert(1)> ${alert(1)} 10_left.png'

def run_of(to, task):
    "A run folder of an untrained net of photographs"
    torch.manual_seed(3)
    learn = make_learner(labeled(task), task, TrainOptions('test_resnet', weights='none', size=64, bs=4, workers=0))
    return save_model(learn, to/task, task, source='odir', data='odir5k')

def hostile(d):
    "Files that are no eyes: name -> a word of the reason"
    Image.fromarray(phantom_oct('DME', seed=1, size=(96,128)).image).save(d/'whole.png')
    (d/'cut.png').write_bytes((d/'whole.png').read_bytes()[:-900])
    (d/'text.png').write_text('I am a text')
    (d/'drawing.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    (d/'empty.jpg').write_bytes(b'')
    raw = bytes.fromhex('89504e470d0a1a0a')
    for k,v in ((b'IHDR', (10_000).to_bytes(4, 'big')+(8000).to_bytes(4, 'big')+bytes([8,2,0,0,0])), (b'IDAT', zlib.compress(b'x')), (b'IEND', b'')):
        raw += len(v).to_bytes(4, 'big')+k+v+zlib.crc32(k+v).to_bytes(4, 'big')
    (d/'huge.png').write_bytes(raw) # 80 megapixels in a hundred bytes
    dicoms.write(d/'named.dcm', dicoms.scans(1), BurnedInAnnotation='YES')
    (d/'half.dcm').write_bytes((d/'named.dcm').read_bytes()[:300])
    return {'cut.png':'breaks off', 'text.png':'is not an image', 'drawing.svg':'is not an image', 'empty.jpg':'is empty', 'huge.png':'64 megapixels',
            'named.dcm':'burned into', 'half.dcm':''}
