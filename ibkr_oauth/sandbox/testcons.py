"""What IBKR publishes of TESTCONS, the consumer that anybody may test with.

The public halves of the demonstration keys, and the Diffie-Hellman group that belongs to them. The
private halves are part of IBKR's own sample code.
"""

SIGNATURE_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvIuAKAfjiEM8+hJGL12S
5iivH+lwA94s3Pz80T9bdOXE6IHDWWBRGEn49j8gjmEoz4cPn1j8W8CaTNFgb+4v
S4fdM7hSCSWaMG9B0ripUKxiqitG66YxFGfvo8BcdI76A84hw7M6Ehm0p3pFhM5X
TUDpTzIulDpUgm/UXM5D3Se4Sct32NajQ2l/xZ1nFRspRddRQpfclPsnp5Vxv6kI
jD4BuTck6xu49rGb8zKcjJnlv6LBbV48taBi930WHfFDl3hBZ3FHnT2JuD0n96po
TCCuMEF+GAZTuIH28jFwiJkWRSfvjtkpKI4BE1QNaj29v6eLXPr53KyUAnTuyWh8
qQIDAQAB
-----END PUBLIC KEY-----
"""

ENCRYPTION_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA5aW4ikfQzQ0HgE43jkZe
ILfK3vqQgpnBEVSP7MFiPrmAOBhNQx1zwG0yZemk06EJiPLnxdeRPsECj12XJlw8
Rl7yasJUDxJlajbdaSZ+HH6rgrMf3AahzrCSJIoF6XsfPRUvJTiFjI73MyvImQp1
p3fxirlSqeKqsbDpoje+uaF/LL9lUIk1K8HJ9wcsqpbc91chCnDnkatLpYx1u6R0
ByBSWGXeMbu3g5OzG1zQmOQlt0AWAVxBnf4pwdeGej4BJeSLVbp9rYeT/5/Uwcq3
suC/fDcDf1MHpxOqTKC31D4oTnJupU2mIIw8KmcED6Nda3XIWVw4kPnHnPuVwPKj
bwIDAQAB
-----END PUBLIC KEY-----
"""

DH_PARAMS = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA9R16tzekUmaP2LXuwS/Nw8AaB0TZPbLpsdwzW9JVHsZ+Eb7MYMM6
c0l6D3wIbYfkV4Gto1t69ycI8xriITR6HGUXV1o0ffg6Mh0FRQVH7hOoGCKA7YFC
MAKqYze0iiUdhAv9q+jUG4EJKEkzpsM7xmUuqcel/WtJRbeznx2VGuGbkZIGHi+d
6EdotnxCUlhyTNuWl1kXyr3qh+fgvHKwGjMdBvLzQiml7HQrOZ/P+lEL9rj5tb+Y
WPBYNxpJqk+VD3+/s/R3EK80uqg//xtGfTjQ5rGwotEX8XjPkw19/cyPZ1WiIp1I
SSqWf0kwQRIeOCueh8oTaMCfVOY1LZCfKwIBAg==
-----END DH PARAMETERS-----
"""

CALLBACK = "http://localhost:20000/"
