package rest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// decryptKey returns PEM text in which the private key is plain. Without a password the text is returned as it is. It knows
// the two forms that OpenSSL writes: PKCS #8 with PBES2 (RFC 8018) and the older one with a DEK-Info header.
func decryptKey(text []byte, password string) ([]byte, error) {
	if password == "" {
		return text, nil
	}
	var out bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			der, err := decryptPKCS8(block.Bytes, password)
			if err != nil {
				return nil, err
			}
			block = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
		//lint:ignore SA1019 a weak encryption, but it is how the operator's file is written
		case x509.IsEncryptedPEMBlock(block):
			//lint:ignore SA1019 likewise
			der, err := x509.DecryptPEMBlock(block, []byte(password))
			if err != nil {
				return nil, err
			}
			block = &pem.Block{Type: block.Type, Bytes: der}
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// The structures of RFC 8018, appendix A.
type encryptedKey struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF    kdf
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

type kdf struct {
	ID     asn1.ObjectIdentifier
	Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	keySizes  = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32} // AES-CBC
	hashes    = map[string]func() hash.Hash{
		"":                    sha1.New, // the default
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
	}
)

func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var k encryptedKey
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the encrypted key is not PKCS #8 with PBES2; want what openssl pkcs8 -topk8 -v2 aes256 writes (%w)", errors.Join(err))
	}
	p := k.Algorithm.Params
	size, newHash := keySizes[p.Cipher.ID.String()], hashes[p.KDF.Params.PRF.Algorithm.String()]
	if !k.Algorithm.ID.Equal(oidPBES2) || !p.KDF.ID.Equal(oidPBKDF2) || size == 0 || newHash == nil ||
		len(p.Cipher.IV) != aes.BlockSize || len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0 || p.KDF.Params.Iterations < 1 {
		return nil, errors.New("the key's encryption is not known here, want PBES2 with PBKDF2 and AES-CBC; write it again with openssl pkcs8 -topk8 -v2 aes256")
	}
	secret, err := pbkdf2.Key(newHash, password, p.KDF.Params.Salt, p.KDF.Params.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(block, p.Cipher.IV).CryptBlocks(plain, k.Data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errors.New("the password does not fit")
	}
	return plain[:len(plain)-padding], nil
}
