"What the tests of nets share: a stub hub, a fresh process that asks it, and a large net"
import os, subprocess, sys
import pytest, timm, torch
from fundus_fastai.options import TrainOptions
from fundus_fastai.vision.steps import make_learner
from fundus_fastai.vision.learner import one_cycle_plan
from stub_hub import HubStub
from nets import worker_code, Worker, frame, body_of

@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for k in list(os.environ):
        if k.lower().endswith('_proxy'): monkeypatch.delenv(k)

@pytest.fixture(scope='module')
def hub():
    stub = HubStub().start()
    yield stub
    stub.stop()

@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "Small nets gain nothing from threads, and two processes that are to agree need the same number"
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)

@pytest.fixture(scope='module')
def worker(hub, tmp_path_factory):
    "A fresh process whose hub is the stub: `worker('body', arch, file)`; it warms up while other tests run"
    home = tmp_path_factory.mktemp('hf')
    env = {k:v for k,v in os.environ.items() if not k.lower().endswith('_proxy') and not k.startswith(('HF_','HUGGING'))}
    env |= dict(HF_ENDPOINT=hub.url, HF_HOME=str(home), TORCH_HOME=str(home), HF_HUB_DISABLE_TELEMETRY='1', MPLBACKEND='Agg')
    p = subprocess.Popen([sys.executable, '-c', worker_code], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=(home/'log').open('w'))
    w = Worker(p, home/'log')
    yield w
    p.stdin.close(); p.wait(60); p.stdout.close()

@pytest.fixture(scope='module')
def inception(tmp_path_factory):
    "InceptionV3 at its own size, from a file as torchvision writes it, after one batch of training"
    torch.manual_seed(1)
    f = tmp_path_factory.mktemp('inception')/'inception_v3.pth'
    with pytest.MonkeyPatch.context() as m: # timm's start is slow, and torch's as good for this
        m.setattr(sys.modules['timm.models.inception_v3'], 'trunc_normal_', lambda *args, **kwargs: None)
        sd = timm.create_model('inception_v3').state_dict()
        aux = {'AuxLogits.conv0.conv.weight':torch.ones(128,768,1,1), 'AuxLogits.conv0.bn.weight':torch.ones(128),
               'AuxLogits.fc.weight':torch.ones(1000,768), 'AuxLogits.fc.bias':torch.ones(1000)}
        torch.save({**sd, **aux}, f)
        learn = make_learner(frame(4, side=64), 'oct', TrainOptions('inception_v3', weights=f, bs=2, workers=0))
    for o in learn.model.modules(): # one batch is all the running statistics get
        if isinstance(o, torch.nn.BatchNorm2d): o.momentum = 1.
    loaded = {k:v.clone() for k,v in body_of(learn).items()}
    with learn.no_bar(), learn.no_logging(): hist = learn.fit_eye(one_cycle_plan(1, 0))
    return learn,sd,loaded,hist
