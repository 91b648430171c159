"""A Colab of one's own: a runtime that is thrown away, a Drive that lasts, and Kaggle and the model hub on localhost.

    with Machine(folder) as m: env = m.fresh()    # a new runtime; what lies on Drive is still there

Kaggle's real client fetches phantoms in the real layouts, nets begin with random weights under their real names, `pip` notes what it
is asked for. Nothing leaves this machine: whatever else asks for the network meets a proxy that is not there.
"""
import json, os, shutil, sys, zipfile
from pathlib import Path
from safetensors.torch import save
import timm, torch
from fundus_fastai.data.catalog import cards
from fundus_fastai.phantom.layouts import write_layout
from fundus_fastai.phantom.oct import write_kermany
from stub_hub import HubStub
from stub_kaggle import KaggleStub

HERE,ROOT = Path(__file__).parent,Path(__file__).resolve().parents[2]
TOKEN = 'KGAT_stub'
TRUTH = {'truth','truth.csv','PROVENANCE.json'} # what tells a phantom: no real archive has it

def odir_names(name): return [name, name.replace('preprocessed_images/', 'ODIR-5K/ODIR-5K/Training Images/')]
def kermany_names(name):
    "Kermany's tree stands twice in Kaggle's archive, once with a space after its name, among Apple's litter"
    return [name.replace('OCT2017/', 'OCT2017 /'), name.replace('OCT2017/', 'oct2017/OCT2017 /')]

NAMES = {'odir5k':odir_names, 'kermany2018':kermany_names}
LITTER = {'kermany2018':['__MACOSX/OCT2017 /._test','OCT2017 /.DS_Store']}

def draw(name, out, patients):
    "Phantoms of `patients` in the layout of the data set `name`; of Kermany's four scans each, of the real size"
    if name=='kermany2018': return write_kermany(out, patients=patients, seed=7, scans=(4,4))
    return write_layout(name, out, patients=patients, seed=7, size=256)

def pack(name, folder, to):
    "The archive of `folder` as Kaggle has that of the data set `name`: stored, without the truth"
    with zipfile.ZipFile(to, 'w') as z:
        for f in sorted(o for o in folder.rglob('*') if o.is_file()):
            own = f.relative_to(folder)
            if TRUTH.isdisjoint(own.parts):
                for k in NAMES.get(name, lambda o: [o])(own.as_posix()): z.write(f, k)
        for k in LITTER.get(name, []): z.writestr(k, b'Bud1')
    return to

class Shop(KaggleStub):
    "A Kaggle with every data set of the catalog that has phantoms, drawn when it is asked for first"
    def __init__(self, folder, patients=None):
        super().__init__(b'', token=TOKEN)
        self.folder,self.patients,self.asked_for = Path(folder),patients or {},[]
        self.names = {o.kaggle:o.name for o in cards.values() if o.kaggle and o.phantom}
    def archive(self, name):
        "The file, made once for each number of patients"
        n = self.patients.get(name, self.patients.get('', 40))
        to = self.folder/f'{name}-{n}.zip'
        if not to.exists():
            draw(name, to.with_suffix(''), n)
            pack(name, to.with_suffix(''), to.with_suffix('.part')).rename(to)
            shutil.rmtree(to.with_suffix(''))
        return to
    def asked(self, method, body):
        "Have the archive ready of which a request speaks"
        slug = body.get('competitionName') or '/'.join(body.get(k, '') for k in ('ownerSlug','datasetSlug'))
        if slug not in self.names: return
        self.asked_for.append((method, self.names[slug]))
        f = self.archive(self.names[slug])
        self.body,self.etag = f.read_bytes(),f'"{f.stem}"'

class Nets(dict):
    "Files of weights by their names at the hub, random, and made when they are asked for first"
    def __init__(self):
        super().__init__()
        self.archs = {f'{c.hf_hub_id}/model.safetensors':o for o in timm.list_models(pretrained=True)
                      if (c := timm.get_pretrained_cfg(o)) and c.hf_hub_id}
    def __contains__(self, name): return name in self.archs
    def __missing__(self, name):
        torch.manual_seed(len(name))
        self[name] = save({k:v.contiguous() for k,v in timm.create_model(self.archs[name]).state_dict().items()})
        return self[name]

class Machine:
    "A folder with the runtime (`content`, `root`, `tmp`), the Drive, and what the stubs are told"
    def __init__(self, root, shelf=None, patients=None, secrets=None, drive='granted', pip_fails=None):
        self.root = Path(root).resolve()
        self.content,self.drive,self.stub = self.root/'runtime'/'content',self.root/'drive',self.root/'stub'
        self.shelf = Path(shelf or self.root/'shelf')
        for o in (self.drive, self.stub, self.shelf): o.mkdir(parents=True, exist_ok=True)
        self.shop,self.hub = Shop(self.shelf, patients),HubStub()
        self.hub.files = Nets()
        (self.stub/'secrets.json').write_text(json.dumps({'KAGGLE_API_TOKEN':TOKEN} if secrets is None else secrets))
        (self.stub/'drive.txt').write_text(drive)
        if pip_fails: (self.stub/'pip-fails.txt').write_text(pip_fails)
    def __enter__(self):
        self.shop.__enter__(); self.hub.start()
        return self
    def __exit__(self, *args):
        self.shop.__exit__(*args); self.hub.stop()
    @property
    def pip(self):
        "What pip was asked, a line a call"
        f = self.stub/'pip.txt'
        return f.read_text().splitlines() if f.exists() else []
    def forget(self):
        "Empty the Drive"
        shutil.rmtree(self.drive); self.drive.mkdir()
    def fresh(self):
        "Throw the runtime away, make another, and give its environment"
        shutil.rmtree(self.root/'runtime', ignore_errors=True)
        for o in ('content/sample_data','root','tmp'): (self.root/'runtime'/o).mkdir(parents=True)
        start = self.stub/'ipython'/'profile_default'/'startup'
        start.mkdir(parents=True, exist_ok=True)
        (start/'00.py').write_text('import google.colab\n' + (HERE/'start.py').read_text())
        return self.env()
    def env(self):
        "The environment of this process without what a Colab lacks, and with what only Colab has"
        mine = ('KAGGLE_','FUNDUS_','HF_','HUGGING','COLAB_','IN_TEST','MPLBACKEND','PYTHONPATH','NBDEV','PYTEST','JPY_','TORCH_HOME')
        env = {k:v for k,v in os.environ.items() if not k.startswith(mine) and not k.lower().endswith('_proxy')}
        paths = [HERE/'site', ROOT, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
        run,dead = self.root/'runtime','http://127.0.0.1:9'
        return env | dict(
            PATH=os.pathsep.join([str(HERE/'bin'), str(Path(sys.executable).parent), env.get('PATH', '')]),
            PYTHONPATH=os.pathsep.join(map(str, paths)), HOME=str(run/'root'), TMPDIR=str(run/'tmp'), PWD=str(self.content),
            IPYTHONDIR=str(self.stub/'ipython'), MPLCONFIGDIR=str(self.stub/'mpl'), CUDA_VISIBLE_DEVICES='',
            COLAB_STUB=str(self.stub), COLAB_RELEASE_TAG='stub', COLAB_GPU='1',
            COLAB_PLACES=json.dumps({'/content':str(self.content), 'https://api.kaggle.com':self.shop.url}),
            HF_ENDPOINT=self.hub.url, HF_HUB_DISABLE_TELEMETRY='1',
            http_proxy=dead, https_proxy=dead, HTTP_PROXY=dead, HTTPS_PROXY=dead, no_proxy='127.0.0.1,localhost', NO_PROXY='127.0.0.1,localhost')
    def placed(self, text):
        "`text` with the runtime's own place for `/content`"
        return text.replace('/content', str(self.content))
    def told(self, text):
        "`text` as a Colab would have said it"
        for a,b in ((self.content,'/content'), (self.drive,'/content/drive/MyDrive'), (self.root/'runtime'/'root','/root'),
                    (self.root/'runtime'/'tmp','/tmp')): text = text.replace(str(a), b)
        return text
