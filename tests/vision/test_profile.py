"Sizes and speeds of nets"
import pytest, torch
from fundus_fastai.core import EyeError
from fundus_fastai.vision.profile import _settle, epochs_that_fit, images_a_second, net_facts

def test_speed_counts_whole_batches():
    class Slow(torch.nn.Module):
        def __init__(self): super().__init__(); self.p,self.calls = torch.nn.Parameter(torch.zeros(1)),0
        def forward(self, x): self.calls += 1; import time; time.sleep(.02); return x
    m = Slow().train()
    assert images_a_second(m, 8, bs=4, seconds=.1)==pytest.approx(4/.02, rel=.25) and m.training and m.calls>4

@pytest.mark.parametrize('kind', ['cuda','mps'])
def test_a_card_is_waited_for(kind, monkeypatch):
    "Or what is timed is how fast it is told what to do"
    monkeypatch.setattr(getattr(torch, kind), 'synchronize', lambda: waited.append(kind))
    waited = []
    for o in (f'{kind}:0','cpu'): _settle(o)
    assert waited==[kind]

@pytest.mark.parametrize('minutes,sec,head,want', [(1,20,0,3),(1,20,1,2),(1,61,0,1),(.5,100,1,1),(10,59,1,9)])
def test_epochs_that_fit(minutes, sec, head, want): assert epochs_that_fit(minutes, sec, head)==want

@pytest.mark.parametrize('arch, size, why', [('vit_tiny_patch16_224', 128, 'cannot read pictures of 128 pixels .* its own `size` is 224'), ('vgg11', 16, 'cannot read pictures'),
                                             ('resnet18', -5, '`size` is to be at least 1'), ('resnet18', 'big', '`size` is to be a whole number')])
def test_facts_at_a_size_that_does_not_fit(arch, size, why):
    "timm's and torch's own errors had come through"
    with pytest.raises(EyeError, match=why): net_facts(arch, size=size)
